#include "formats/packed_containers.h"

#include <algorithm>

#include "formats/gptq_layout.h"
#include "calque/core/error.h"

namespace calque::formats {
namespace {

Index one(const ModuleSettings&) { return 1; }
Index eight(const ModuleSettings&) { return 8; }
// The fast packers and kernels of GPTQ's loaders take 32 channels at a time at every width.
Index thirty_two(const ModuleSettings&) { return 32; }
Index codes_a_word(const ModuleSettings& settings) {
  return settings.bits > 0 ? std::max(32 / settings.bits, 1) : 1;
}
Index zeros_a_word(const ModuleSettings& settings) {
  return settings.sym ? 1 : codes_a_word(settings);
}

quant::Grid basic_grid(const ModuleSettings& settings, ScalePrecision precision) {
  quant::Grid grid;
  grid.bits = settings.bits;
  grid.group_size = settings.group_size;
  grid.offset_kind = settings.sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  grid.precision = precision;
  return grid;
}

bool asks_bfloat16(const PlanInputs& inputs) { return inputs.request.scale_dtype == "bfloat16"; }

quant::Grid awq_grid(const PlanInputs& inputs, const model::TensorSpec&,
                     const ModuleSettings& settings) {
  return basic_grid(settings,
                    asks_bfloat16(inputs) ? ScalePrecision::kF16AndBF16 : ScalePrecision::kF16);
}

quant::Grid gptq_grid(const PlanInputs& inputs, const model::TensorSpec& tensor,
                      const ModuleSettings& settings) {
  quant::Grid grid = awq_grid(inputs, tensor, settings);
  const bool all_sym = std::all_of(inputs.modules.begin(), inputs.modules.end(),
                                   [](const auto& module) { return module.second.sym; });
  const bool v1 = gptq_checkpoint_format(all_sym, inputs.request.checkpoint_format) == "gptq";
  grid.min_zero = !settings.sym && v1 ? 1 : 0;
  grid.desc_act = inputs.request.desc_act;
  return grid;
}

// Asked for by name, bfloat16 scales are binary16 numbers, too: then one pass over the model makes
// this folder and a gptq or awq folder.
quant::Grid compressed_tensors_grid(const PlanInputs& inputs, const model::TensorSpec& tensor,
                                    const ModuleSettings& settings) {
  if (asks_bfloat16(inputs)) return basic_grid(settings, ScalePrecision::kF16AndBF16);
  const bool half =
      inputs.request.scale_dtype == "float16" || inputs.source.at(tensor.name).dtype == DType::kF16;
  return basic_grid(settings, half ? ScalePrecision::kF16 : ScalePrecision::kBF16);
}

const std::vector<PackedContainer>& containers() {
  static const std::vector<PackedContainer> table = {
      {"gptq",
       "GPTQ",
       {2, 3, 4, 8},
       false,
       thirty_two,
       thirty_two,
       gptq_grid,
       [](const std::string& checkpoint_format, const Exec& exec) {
         return gptq_layout(checkpoint_format == "gptq_v2", exec);
       },
       gptq_settings_json},
      {"awq",
       "AWQ",
       {4},
       true,
       one,
       eight,
       awq_grid,
       [](const std::string&, const Exec&) { return awq_layout(); },
       [](const FolderContents& contents, const std::string&, const Provenance&) {
         return awq_settings_json(contents);
       }},
      {"compressed-tensors",
       "compressed-tensors",
       {4, 8},
       false,
       codes_a_word,
       zeros_a_word,
       compressed_tensors_grid,
       [](const std::string&, const Exec& exec) { return compressed_tensors_layout(exec); },
       [](const FolderContents& contents, const std::string&, const Provenance&) {
         return compressed_tensors_settings_json(contents);
       }},
  };
  return table;
}

}  // namespace

const PackedContainer& packed_container(const std::string& format) {
  for (const PackedContainer& container : containers())
    if (container.format == format) return container;
  throw Error(ErrorKind::kInternal, "", "'" + format + "' is no folder of packed tensors");
}

}  // namespace calque::formats
