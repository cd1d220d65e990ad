// Plans folders of packed linears and refuses what they cannot hold.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "calque/core/names.h"
#include "formats/messages.h"
#include "formats/module_patterns.h"
#include "formats/packed_format.h"
#include "formats/requirements.h"

namespace calque::formats {
namespace {

// Sizes that the loaders' kernels know.
constexpr Index kGroupSizes[] = {32, 64, 128, 256, 512, 1024};

// A linear that is to be quantized.
struct Quantized {
  model::LinearSpec linear;
  ModuleSettings settings;
};

std::vector<Quantized> quantized_of(const PlanInputs& inputs) {
  std::vector<Quantized> result;
  std::vector<model::LinearSpec> linears = all_linears(inputs.family);
  linears.push_back(embedding_linear(inputs.family));
  for (const model::LinearSpec& linear : linears) {
    const auto found = inputs.modules.find(linear.name);
    if (found != inputs.modules.end()) result.push_back({linear, found->second});
  }
  return result;
}

// Linears grouped by key, in order of the keys.
using LinearsByKey = std::map<std::pair<Index, Index>, std::vector<const model::LinearSpec*>>;
template <typename KeyOf>
LinearsByKey linears_by(const std::vector<Quantized>& modules, KeyOf key_of) {
  LinearsByKey result;
  for (const Quantized& module : modules) result[key_of(module)].push_back(&module.linear);
  return result;
}

bool holds(const Format& format, int bits) {
  const std::vector<int>& widths = format.packed->widths;
  return std::find(widths.begin(), widths.end(), bits) != widths.end();
}

std::string widths_text(const Format& format) {
  std::vector<std::string> widths;
  for (const int width : format.packed->widths) widths.push_back(std::to_string(width));
  return alternatives(widths);
}

// The format with the most bit widths, unless it is `format` itself.
const Format* widest(const Format& format) {
  const Format* found = &format;
  for (const Format* other : formats())
    if (other->packed != nullptr && other->packed->widths.size() > found->packed->widths.size())
      found = other;
  return found == &format ? nullptr : found;
}

std::string instead_of_width(const Format& format, int bits) {
  std::vector<std::string> choices;
  if (const Format* other = widest(format)) {
    std::vector<std::string> names;
    for (const Format* each : formats())
      if (each->packed != nullptr && holds(*each, bits)) names.emplace_back(each->name);
    choices.push_back(bits == 8 && !holds(format, 8)
                          ? alternatives(names)
                          : fmt::format("{} ({} bits)", other->name, widths_text(*other)));
  }
  if (bits == 5) choices.emplace_back("gguf Q5_0");
  if (bits == 6) choices.emplace_back("gguf Q8_0");
  std::string text = fmt::format("Use bits: {}", bits > 4 && holds(format, 8) ? 8 : 4);
  return choices.empty() ? text : fmt::format("{}, or export {}", text, fmt::join(choices, " or "));
}

void check_widths(const Format& format, const std::vector<Quantized>& modules, Refusals& refusals) {
  const auto by_bits = linears_by(
      modules, [](const Quantized& m) { return std::pair<Index, Index>(m.settings.bits, 0); });
  const std::string stores =
      widths_text(format) + (format.packed->widths.size() == 1 ? "-bit weights only" : " bits");
  for (const auto& [key, linears] : by_bits) {
    const int bits = static_cast<int>(key.first);
    if (holds(format, bits)) continue;
    const std::string where =
        by_bits.size() == 1
            ? ""
            : fmt::format(" for {} ({} modules)", module_pattern(linears), linears.size());
    refusals.add("E121", fmt::format("format '{}' stores {}, bits is {}{}. {}.", format.name,
                                     stores, bits, where, instead_of_width(format, bits)));
  }
}

// True if the format's loaders know groups of this size.
bool knows_groups(const Format& format, Index size) {
  const std::vector<Index>& sizes = format.packed->group_sizes;
  return sizes.empty() || std::find(sizes.begin(), sizes.end(), size) != sizes.end();
}

std::string sizes_that_fit(const Format& format, const std::vector<Quantized>& modules) {
  Index common = 0;
  for (const Quantized& module : modules) common = std::gcd(common, module.linear.in_features());
  std::vector<Index> sizes;
  for (const Index size : kGroupSizes)
    if (common % size == 0 && knows_groups(format, size)) sizes.push_back(size);
  if (knows_groups(format, -1)) sizes.push_back(-1);
  return sizes.empty() ? "none" : fmt::format("{}", fmt::join(sizes, ", "));
}

void check_group_size(const Format& format, const std::vector<Quantized>& modules, Index group_size,
                      Refusals& refusals) {
  if (group_size == 0 || group_size < -1) {
    refusals.add("E131", fmt::format("group_size is {}: it must be positive, or -1 for one group "
                                     "per output. Sizes that fit every module: {}.",
                                     group_size, sizes_that_fit(format, modules)));
    return;
  }
  if (!knows_groups(format, group_size)) {
    refusals.add("E131",
                 fmt::format("group_size is {}: {} has groups of {}. Sizes that fit every "
                             "module: {}.",
                             group_size, format.label, fmt::join(format.packed->group_sizes, ", "),
                             sizes_that_fit(format, modules)));
    return;
  }
  if (group_size == -1) return;
  const auto by_inputs = linears_by(modules, [](const Quantized& m) {
    return std::pair<Index, Index>(m.linear.in_features(), 0);
  });
  for (const auto& [key, linears] : by_inputs)
    if (key.first % group_size != 0)
      refusals.add("E131", fmt::format("group_size {} does not divide in_features {} of {} ({} "
                                       "modules; {} = {}). Sizes that fit every module: {}.",
                                       group_size, key.first, module_pattern(linears),
                                       linears.size(), key.first, factorisation(key.first),
                                       sizes_that_fit(format, modules)));
}

void check_group_sizes(const Format& format, const std::vector<Quantized>& modules,
                       Refusals& refusals) {
  std::map<Index, std::vector<Quantized>> by_size;
  for (const Quantized& module : modules) by_size[module.settings.group_size].push_back(module);
  for (const auto& [group_size, same] : by_size)
    check_group_size(format, same, group_size, refusals);
  if (!format.packed->one_group_size || by_size.size() < 2) return;
  std::vector<std::string> sizes;
  for (const auto& [group_size, same] : by_size) sizes.push_back(std::to_string(group_size));
  refusals.add("E131", fmt::format("format '{}' has one group_size for all modules, but the rules "
                                   "set {}. Use one, or export gptq or compressed-tensors.",
                                   format.name, fmt::join(sizes, ", ")));
}

void check_multiples(const Format& format, const std::vector<Quantized>& modules,
                     std::string_view what, Index (model::LinearSpec::*channels)() const,
                     Index (*multiple)(const ModuleSettings&), Refusals& refusals) {
  const auto by_size = linears_by(modules, [&](const Quantized& m) {
    return std::pair<Index, Index>((m.linear.*channels)(), multiple(m.settings));
  });
  for (const auto& [key, linears] : by_size)
    if (key.first % key.second != 0)
      refusals.add("E132",
                   fmt::format("{} packs words of 32 bits and needs {} in multiples of "
                               "{}; {} has {} ({} modules; {} = {}). Export gguf F16 "
                               "instead, or leave these modules unquantized (a rule with "
                               "skip: true).",
                               format.label, what, key.second, module_pattern(linears), key.first,
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
                 "a rule quantizes lm_head, which is tied to the embedding (tie_word_embeddings: "
                 "true): there is no lm_head.weight, and folders do not quantize the embedding. "
                 "Remove skip: false from the rule for lm_head.");
  else if (modules.empty())
    refusals.add("E125", fmt::format("the rules skip every module, so there is nothing to quantize "
                                     "for format '{}'. Remove a rule with skip: true.",
                                     inputs.request.format));
}

std::string groups_text(Index group_size) {
  return group_size < 0 ? "per row" : fmt::format("g{}", group_size);
}

// The checkpoint formats of all formats.
std::vector<std::string_view> checkpoint_formats() {
  std::vector<std::string_view> known;
  for (const Format* format : formats())
    for (const std::string_view name : format->checkpoint_formats)
      if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  return known;
}

void check_packed(const PlanInputs& inputs, Refusals& refusals) {
  const Format& format = format_of(inputs.request);
  const std::vector<Quantized> modules = quantized_of(inputs);
  check_modules(inputs, modules, refusals);
  check_widths(format, modules, refusals);
  check_name("checkpoint_format", inputs.request.checkpoint_format, checkpoint_formats(), refusals);
  check_name("scale_dtype", inputs.request.scale_dtype, {"auto", "float16", "bfloat16"}, refusals);
  check_group_sizes(format, modules, refusals);
  check_multiples(format, modules, "in_features", &model::LinearSpec::in_features,
                  format.packed->input_multiple, refusals);
  check_multiples(format, modules, "out_features", &model::LinearSpec::out_features,
                  format.packed->output_multiple, refusals);
  if (format.packed->check != nullptr) format.packed->check(inputs, refusals);
}

std::vector<std::string> packed_remarks(const PlanInputs& inputs,
                                        const std::vector<TensorPlan>& tensors) {
  std::vector<std::string> remarks;
  if (format_of(inputs.request).packed->notes != nullptr) return remarks;
  if (std::string remark = rank_remark(inputs.family, inputs.request, tensors); !remark.empty())
    remarks.push_back(std::move(remark));
  if (std::string remark = mxfp4_remark(tensors); !remark.empty())
    remarks.push_back(std::move(remark));
  if (std::string remark = stacked_experts_remark(inputs.family, inputs.request, tensors);
      !remark.empty())
    remarks.push_back(std::move(remark));
  return remarks;
}

// Every format copies biases in the checkpoint's dtype: loaders convert them to their own, and
// binary16 would lose values that bfloat16 holds.
TensorPlan plan_packed_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                              bool in_block_linear) {
  const bool head = !inputs.family.lm_head.empty() && tensor.name == inputs.family.head().name;
  const std::string module = module_of(tensor.name);
  const bool embedding = tensor.name == inputs.family.embedding.name;
  const auto found = inputs.modules.find(head ? "lm_head" : module);  // as rules name it
  if (found == inputs.modules.end() || !(in_block_linear || head || embedding))
    return plan_copy(inputs, tensor);
  const Format& format = format_of(inputs.request);
  TensorPlan plan;
  plan.tensor = tensor;
  plan.grid = format.packed->grid(inputs, tensor, found->second);
  plan.inputs = found->second.inputs;
  const quant::Grid& grid = *plan.grid;
  plan.stored_as =
      (grid.number
           ? fmt::format("{} {}", format.label,
                         number_text(*grid.number, grid.group_size, grid.scale_rows))
           : fmt::format("{} {} bit {}", format.label, grid.bits, groups_text(grid.group_size))) +
      inputs_text(plan.inputs);
  for (const io::TensorDeclaration& part :
       format.packed->declare(module, tensor.shape[0], tensor.shape[1], {grid, plan.inputs}))
    plan.bytes += part.byte_count();
  return plan;
}

TensorPlanner packed_planner(const PlanInputs& inputs) {
  return [&inputs](const model::TensorSpec& tensor, bool in_block_linear) {
    return plan_packed_tensor(inputs, tensor, in_block_linear);
  };
}

}  // namespace

Format packed_row(Format facts) {
  facts.check = check_packed;
  facts.planner = packed_planner;
  facts.remarks = packed_remarks;
  facts.open = open_packed_writer;
  facts.files = packed_files;
  return facts;
}

}  // namespace calque::formats
