#include "calque/model/expert_stacks.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

namespace calque::model {
namespace {

// "model.layers.3.mlp.experts.7.up_proj.bias"
struct Part {
  std::string stack;
  std::size_t expert = 0;
};

std::optional<Part> part_named(std::string_view name) {
  constexpr std::string_view kFolder = ".experts.";
  const std::size_t at = name.find(kFolder);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string folder(name.substr(0, at + kFolder.size()));
  std::string_view rest = name.substr(folder.size());
  const std::size_t dot = rest.find('.');
  const std::size_t expert = std::stoul(std::string(rest.substr(0, dot)));
  rest.remove_prefix(dot + 1);
  const std::string_view projection = rest.starts_with("down") ? "down_proj" : "gate_up_proj";
  const std::string_view ending = rest.ends_with(".bias") ? "_bias" : "";
  return Part{folder + std::string(projection) + std::string(ending), expert};
}

}  // namespace

std::vector<ExpertStack> expert_stacks(const FamilySpec& family, StackedExperts layout) {
  std::vector<ExpertStack> stacks;
  if (layout == StackedExperts::kNone || layout == StackedExperts::kRows) return stacks;
  std::map<std::string, std::size_t> index;
  for (const TensorSpec& tensor : family.tensors()) {
    const std::optional<Part> part = part_named(tensor.name);
    if (!part) continue;
    const auto [found, is_new] = index.emplace(part->stack, stacks.size());
    if (is_new) stacks.push_back({.name = part->stack, .shape = {}, .parts = {}});
    ExpertStack& stack = stacks[found->second];
    stack.parts.resize(std::max(stack.parts.size(), part->expert + 1));
    stack.parts[part->expert].push_back(tensor.name);
    const Index outputs = tensor.shape[0] * static_cast<Index>(stack.parts[part->expert].size());
    stack.shape = {static_cast<Index>(stack.parts.size())};
    if (tensor.shape.size() > 1) stack.shape.push_back(tensor.shape[1]);
    stack.shape.push_back(outputs);
  }
  return stacks;
}

Matrix<float> stacked_expert(const ExpertStack& stack, Index e, StackedExperts layout,
                             const WeightSource& source) {
  const std::vector<std::string>& parts = stack.parts[static_cast<std::size_t>(e)];
  const auto count = static_cast<Index>(parts.size());
  const bool bias = stack.shape.size() == 2;
  const Index outputs = stack.shape.back();
  auto slab = Matrix<float>::uninitialized(bias ? 1 : stack.shape[1], outputs);
  for (Index p = 0; p < count; ++p) {
    const Matrix<float> part = source.load(parts[static_cast<std::size_t>(p)]);
    const bool alternate = layout == StackedExperts::kAlternatingColumns;
    for (Index i = 0; i < slab.rows(); ++i)
      for (Index o = 0; o < outputs / count; ++o)
        slab(i, alternate ? o * count + p : p * (outputs / count) + o) =
            bias ? part(0, o) : part(o, i);
  }
  return slab;
}

}  // namespace calque::model
