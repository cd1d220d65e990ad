// What folders of packed tensors cannot hold, and the plan of what they can.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "formats/packed_containers.h"
#include "formats/requirements.h"
#include "formats/wording.h"
#include "calque/core/names.h"

namespace calque::formats {
namespace {

// Sizes that the loaders' kernels know (formats_gptq_awq.md section 5).
constexpr Index kGroupSizes[] = {32, 64, 128, 256, 512, 1024};

// A linear that is to be quantized.
struct Quantized {
  model::LinearSpec linear;
  ModuleSettings settings;
};

std::vector<Quantized> quantized_of(const PlanInputs& inputs) {
  std::vector<Quantized> result;
  for (const model::LinearSpec& linear : all_linears(inputs.family)) {
    const auto found = inputs.modules.find(linear.name);
    if (found != inputs.modules.end()) result.push_back({linear, found->second});
  }
  return result;
}

// Linears of equal keys together, in order of the keys.
using LinearsByKey = std::map<std::pair<Index, Index>, std::vector<const model::LinearSpec*>>;
template <typename KeyOf>
LinearsByKey linears_by(const std::vector<Quantized>& modules, KeyOf key_of) {
  LinearsByKey result;
  for (const Quantized& module : modules) result[key_of(module)].push_back(&module.linear);
  return result;
}

std::string instead_of_width(const PackedContainer& container, int bits) {
  std::vector<std::string> choices;
  const auto holds = [&](int width) {
    return std::find(container.widths.begin(), container.widths.end(), width) !=
           container.widths.end();
  };
  if (container.format != "gptq")
    choices.push_back(bits == 8 && !holds(8) ? "gptq or compressed-tensors"
                                             : "gptq (2, 3, 4 or 8 bits)");
  if (bits == 5) choices.emplace_back("gguf Q5_0");
  if (bits == 6) choices.emplace_back("gguf Q8_0");
  std::string text = fmt::format("Use bits: {}", bits > 4 && holds(8) ? 8 : 4);
  return choices.empty() ? text : fmt::format("{}, or export {}", text, fmt::join(choices, " or "));
}

void check_widths(const PackedContainer& container, const std::vector<Quantized>& modules,
                  Refusals& refusals) {
  const auto by_bits = linears_by(
      modules, [](const Quantized& m) { return std::pair<Index, Index>(m.settings.bits, 0); });
  std::vector<std::string> widths;
  for (const int width : container.widths) widths.push_back(std::to_string(width));
  const std::string stores =
      widths.size() == 1 ? widths.front() + "-bit weights only" : alternatives(widths) + " bits";
  for (const auto& [key, linears] : by_bits) {
    const int bits = static_cast<int>(key.first);
    if (std::count(container.widths.begin(), container.widths.end(), bits) > 0) continue;
    const std::string where =
        by_bits.size() == 1
            ? ""
            : fmt::format(" for {} ({} modules)", module_pattern(linears), linears.size());
    refusals.add("E121", fmt::format("format '{}' stores {}, bits is {}{}. {}.", container.format,
                                     stores, bits, where, instead_of_width(container, bits)));
  }
}

std::string sizes_that_fit(const std::vector<Quantized>& modules) {
  Index common = 0;
  for (const Quantized& module : modules) common = std::gcd(common, module.linear.in_features());
  std::vector<Index> sizes;
  for (const Index size : kGroupSizes)
    if (common % size == 0) sizes.push_back(size);
  sizes.push_back(-1);
  return fmt::format("{}", fmt::join(sizes, ", "));
}

void check_group_size(const std::vector<Quantized>& modules, Index group_size, Refusals& refusals) {
  if (group_size == 0 || group_size < -1) {
    refusals.add("E131", fmt::format("group_size is {}: it must be positive, or -1 for one group "
                                     "per output. Sizes that fit every module: {}.",
                                     group_size, sizes_that_fit(modules)));
    return;
  }
  if (group_size == -1) return;
  const auto by_inputs = linears_by(modules, [](const Quantized& m) {
    return std::pair<Index, Index>(m.linear.in_features(), 0);
  });
  for (const auto& [key, linears] : by_inputs)
    if (key.first % group_size != 0)
      refusals.add("E131",
                   fmt::format("group_size {} does not divide in_features {} of {} ({} "
                               "modules; {} = {}). Sizes that fit every module: {}.",
                               group_size, key.first, module_pattern(linears), linears.size(),
                               key.first, factorisation(key.first), sizes_that_fit(modules)));
}

void check_group_sizes(const PackedContainer& container, const std::vector<Quantized>& modules,
                       Refusals& refusals) {
  std::map<Index, std::vector<Quantized>> by_size;
  for (const Quantized& module : modules) by_size[module.settings.group_size].push_back(module);
  for (const auto& [group_size, same] : by_size) check_group_size(same, group_size, refusals);
  if (!container.one_group_size || by_size.size() < 2) return;
  std::vector<std::string> sizes;
  for (const auto& [group_size, same] : by_size) sizes.push_back(std::to_string(group_size));
  refusals.add("E131", fmt::format("format '{}' has one group_size for all modules; the rules give "
                                   "{}. Use one, or export gptq or compressed-tensors.",
                                   container.format, fmt::join(sizes, ", ")));
}

void check_multiples(const PackedContainer& container, const std::vector<Quantized>& modules,
                     std::string_view what, Index (model::LinearSpec::*channels)() const,
                     Index (*multiple)(const ModuleSettings&), Refusals& refusals) {
  const auto by_size = linears_by(modules, [&](const Quantized& m) {
    return std::pair<Index, Index>((m.linear.*channels)(), multiple(m.settings));
  });
  for (const auto& [key, linears] : by_size)
    if (key.first % key.second != 0)
      refusals.add(
          "E132", fmt::format("{} packs words of 32 bits and needs {} in multiples of "
                              "{}; {} has {} ({} modules; {} = {}). Export gguf F16 "
                              "instead, or leave these modules as they are (a rule with "
                              "skip: true).",
                              container.label, what, key.second, module_pattern(linears), key.first,
                              linears.size(), key.first, factorisation(key.first)));
}

void check_name(std::string_view key, const std::string& name,
                const std::vector<std::string_view>& known, Refusals& refusals) {
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  refusals.add("E122", fmt::format("unknown {} '{}'; did you mean '{}'? ({})", key, name,
                                   nearest_name(name, known), fmt::join(known, ", ")));
}

void check_modules(const PlanInputs& inputs, const std::vector<Quantized>& modules,
                   Refusals& refusals) {
  if (inputs.family.lm_head.empty() && inputs.modules.count("lm_head") > 0)
    refusals.add("E124",
                 "a rule quantizes lm_head, which is tied to the embedding "
                 "(tie_word_embeddings: true): there is no lm_head.weight, and folders "
                 "keep the embedding as it is. Remove skip: false from the rule for lm_head.");
  else if (modules.empty())
    refusals.add("E125", fmt::format("the rules skip every module, so there is nothing to quantize "
                                     "for format '{}'. Remove a rule with skip: true.",
                                     inputs.request.format));
}

std::string groups_text(Index group_size) {
  return group_size < 0 ? "per row" : fmt::format("g{}", group_size);
}

}  // namespace

void check_packed(const PlanInputs& inputs, Refusals& refusals) {
  const PackedContainer& container = packed_container(inputs.request.format);
  const std::vector<Quantized> modules = quantized_of(inputs);
  check_modules(inputs, modules, refusals);
  check_widths(container, modules, refusals);
  check_name("checkpoint_format", inputs.request.checkpoint_format, {"auto", "gptq", "gptq_v2"},
             refusals);
  check_name("scale_dtype", inputs.request.scale_dtype, {"auto", "float16", "bfloat16"}, refusals);
  check_group_sizes(container, modules, refusals);
  check_multiples(container, modules, "in_features", &model::LinearSpec::in_features,
                  container.input_multiple, refusals);
  check_multiples(container, modules, "out_features", &model::LinearSpec::out_features,
                  container.output_multiple, refusals);
}

// Of the sizes that people run, those that the shapes do not allow; none if one rank has trouble
// already.
std::vector<std::string> packed_remarks(const PlanInputs& inputs,
                                        const std::vector<TensorPlan>& tensors) {
  const PlannedGrids grids(tensors);
  std::vector<std::string> fit, others;
  for (const Index ranks : {1, 2, 4, 8}) {
    ExportRequest request = inputs.request;
    request.require.tensor_parallel = {ranks};
    Refusals refusals;
    check_rank_shapes(inputs.family, request, grids, refusals);
    (refusals.empty() ? fit : others).push_back(std::to_string(ranks));
  }
  if (others.empty() || fit.empty() || fit.front() != "1") return {};
  return {fmt::format("tensor parallelism: the shapes allow {} of 1, 2, 4 and 8 ranks",
                      fmt::join(fit, ", "))};
}

// Biases are copied in the checkpoint's dtype by every container: loaders convert them to the dtype
// that they run in, and binary16 would cut off what bfloat16 holds.
TensorPlan plan_packed_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                              bool in_block_linear) {
  const bool head = !inputs.family.lm_head.empty() && tensor.name == inputs.family.head().name;
  const std::string module = module_of(tensor.name);
  const auto found = inputs.modules.find(module);
  if (found == inputs.modules.end() || !(in_block_linear || head)) return plan_copy(inputs, tensor);
  const PackedContainer& container = packed_container(inputs.request.format);
  TensorPlan plan;
  plan.tensor = tensor;
  plan.grid = container.grid(inputs, tensor, found->second);
  plan.stored_as = fmt::format("{} {} bit {}", container.label, plan.grid->bits,
                               groups_text(plan.grid->group_size));
  const auto layout = container.layout(inputs.request.checkpoint_format, open_exec("cpu"));
  for (const io::TensorDeclaration& part :
       layout->declare(module, tensor.shape[0], tensor.shape[1], *plan.grid))
    plan.bytes += part.byte_count();
  return plan;
}

}  // namespace calque::formats
