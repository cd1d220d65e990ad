#include "calque/quant/methods.h"

#include <array>

namespace calque::quant {
namespace {

// A new method is one file that defines its row, and the row's name here.
constexpr std::array kRoundings = {&kRtn, &kGptq};
constexpr std::array kTransforms = {&kNoTransform, &kAwq};

}  // namespace

const Transform kNoTransform = {.name = "none", .title = "", .summary = "leave them as they are"};

std::span<const Rounding* const> roundings() { return kRoundings; }
std::span<const Transform* const> transforms() { return kTransforms; }

std::vector<Method> methods() {
  std::vector<Method> all;
  for (const Rounding* r : kRoundings) all.push_back({r->name, r->summary, &kNoTransform, r});
  for (const Transform* t : kTransforms)
    if (t->rescales_channels()) all.push_back({t->name, t->summary, t, &kGptq});
  return all;
}

std::string_view method_name(const Transform& transform, const Rounding& rounding) {
  return transform.rescales_channels() ? transform.name : rounding.name;
}

}  // namespace calque::quant
