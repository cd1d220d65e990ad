#include "calque/quant/methods.h"

#include "calque/ggml/blocks.h"

namespace calque::quant {

// To add a method, write one file that defines its row as an extern const, and add the name here.
#define CALQUE_ROUNDINGS(ROW) ROW(kRtn) ROW(kGptq)
#define CALQUE_TRANSFORMS(ROW) ROW(kNoTransform) ROW(kAwq) ROW(kSmoothQuant)

#define CALQUE_DECLARE(row) extern const Rounding row;
CALQUE_ROUNDINGS(CALQUE_DECLARE)
#undef CALQUE_DECLARE
#define CALQUE_DECLARE(row) extern const Transform row;
CALQUE_TRANSFORMS(CALQUE_DECLARE)
#undef CALQUE_DECLARE

namespace {

#define CALQUE_POINTER(row) &row,
constexpr const Rounding* kAllRoundings[] = {CALQUE_ROUNDINGS(CALQUE_POINTER)};
constexpr const Transform* kAllTransforms[] = {CALQUE_TRANSFORMS(CALQUE_POINTER)};
#undef CALQUE_POINTER

}  // namespace

extern const Transform kNoTransform = {
    .name = "none", .title = "", .summary = "leave them as they are"};

std::span<const Rounding* const> roundings() { return kAllRoundings; }
std::span<const Transform* const> transforms() { return kAllTransforms; }

std::vector<Method> methods() {
  std::vector<Method> all;
  for (const Rounding* r : kAllRoundings) all.push_back({r->name, r->summary, &kNoTransform, r});
  for (const Transform* t : kAllTransforms)
    if (t->rescales_channels()) all.push_back({t->name, t->summary, t, &kGptq});
  return all;
}

std::string_view method_name(const Transform& transform, const Rounding& rounding) {
  return transform.rescales_channels() ? transform.name : rounding.name;
}

bool takes_statistics(const Grid& grid) {
  return !grid.block || ggml::heeds_importance(*grid.block);
}

}  // namespace calque::quant
