#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "artifact/formats.h"
#include "artifact/gptq_layout.h"
#include "artifact/wording.h"
#include "calque/core/names.h"

namespace calque::artifact {
namespace {

constexpr int kWidths[] = {2, 3, 4, 8};
// Sizes that the loaders' kernels know (formats_gptq_awq.md section 5).
constexpr Index kGroupSizes[] = {32, 64, 128, 256, 512, 1024};

using ModulesBySize = std::map<Index, std::vector<const model::LinearSpec*>>;

ModulesBySize modules_by(const std::vector<model::LinearSpec>& linears,
                         Index (model::LinearSpec::*size)() const) {
  ModulesBySize result;
  for (const model::LinearSpec& linear : linears) result[(linear.*size)()].push_back(&linear);
  return result;
}

bool sym_of(const PlanInputs& inputs) { return inputs.quantization.sym; }

quant::Grid grid_of(const PlanInputs& inputs) {
  const bool v1 =
      gptq_checkpoint_format(sym_of(inputs), inputs.request.checkpoint_format) == "gptq";
  quant::Grid grid;
  grid.bits = inputs.quantization.bits;
  grid.group_size = inputs.quantization.group_size;
  grid.offset_kind = sym_of(inputs) ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  grid.precision = ScalePrecision::kF16;
  grid.min_zero = !sym_of(inputs) && v1 ? 1 : 0;
  return grid;
}

void check_width(int bits, Refusals& refusals) {
  if (std::find(std::begin(kWidths), std::end(kWidths), bits) != std::end(kWidths)) return;
  const char* instead = bits == 5   ? " or export gguf Q5_0"
                        : bits == 6 ? " or export gguf Q8_0"
                                    : "";
  refusals.add("E121",
               fmt::format("format 'gptq' stores 2, 3, 4 or 8 bits, bits is {}. Use bits: {}"
                           "{}{}.",
                           bits, bits > 4 ? 8 : 4, *instead ? "," : "", instead));
}

void check_checkpoint_format(const std::string& name, Refusals& refusals) {
  const std::vector<std::string_view> known = {"auto", "gptq", "gptq_v2"};
  if (std::find(known.begin(), known.end(), name) != known.end()) return;
  refusals.add("E122", fmt::format("unknown checkpoint_format '{}'; did you mean '{}'? ({})", name,
                                   nearest_name(name, known), fmt::join(known, ", ")));
}

std::string sizes_that_fit(const std::vector<model::LinearSpec>& linears) {
  Index common = 0;
  for (const model::LinearSpec& linear : linears) common = std::gcd(common, linear.in_features());
  std::vector<Index> sizes;
  for (const Index size : kGroupSizes)
    if (common % size == 0) sizes.push_back(size);
  sizes.push_back(-1);
  return fmt::format("{}", fmt::join(sizes, ", "));
}

void check_group_size(const std::vector<model::LinearSpec>& linears, Index group_size,
                      Refusals& refusals) {
  if (group_size == 0 || group_size < -1) {
    refusals.add("E131", fmt::format("group_size is {}: it must be positive, or -1 for one group "
                                     "per output. Sizes that fit every module: {}.",
                                     group_size, sizes_that_fit(linears)));
    return;
  }
  if (group_size == -1) return;
  for (const auto& [size, modules] : modules_by(linears, &model::LinearSpec::in_features))
    if (size % group_size != 0)
      refusals.add("E131", fmt::format("group_size {} does not divide in_features {} of {} ({} "
                                       "modules; {} = {}). Sizes that fit every module: {}.",
                                       group_size, size, module_pattern(modules), modules.size(),
                                       size, factorisation(size), sizes_that_fit(linears)));
}

void check_multiple_of_32(const ModulesBySize& modules_of_size, std::string_view what,
                          Refusals& refusals) {
  for (const auto& [size, modules] : modules_of_size)
    if (size % 32 != 0)
      refusals.add("E132", fmt::format("GPTQ packs words of 32 bits and needs {} in multiples of "
                                       "32; {} has {} ({} modules; {} = {}). Export gguf F16 "
                                       "instead.",
                                       what, module_pattern(modules), size, modules.size(), size,
                                       factorisation(size)));
}

}  // namespace

void check_gptq(const PlanInputs& inputs, Refusals& refusals) {
  const std::vector<model::LinearSpec> linears = inputs.family.linears();
  check_width(inputs.quantization.bits, refusals);
  check_checkpoint_format(inputs.request.checkpoint_format, refusals);
  check_group_size(linears, inputs.quantization.group_size, refusals);
  check_multiple_of_32(modules_by(linears, &model::LinearSpec::in_features), "in_features",
                       refusals);
  check_multiple_of_32(modules_by(linears, &model::LinearSpec::out_features), "out_features",
                       refusals);
}

TensorPlan plan_gptq_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                            bool in_block_linear) {
  if (!in_block_linear) return plan_copy(inputs, tensor);
  TensorPlan plan;
  plan.tensor = tensor;
  plan.grid = grid_of(inputs);
  plan.stored_as =
      fmt::format("GPTQ {} bit {}", plan.grid->bits,
                  plan.grid->group_size < 0 ? std::string("per row")
                                            : fmt::format("g{}", plan.grid->group_size));
  for (const io::TensorDeclaration& part :
       gptq_declarations(tensor.name, tensor.shape[0], tensor.shape[1], *plan.grid))
    plan.bytes += part.byte_count();
  return plan;
}

}  // namespace calque::artifact
