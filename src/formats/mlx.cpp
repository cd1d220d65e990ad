// MLX folders, affine mode: codes packed along the inputs as a stream of bits, a scale and an
// offset ("bias") for each group. value = scale * code + bias.
//   weight U32 [N, K * bits / 32]   scales, biases: the model's dtype [N, K / group_size]
#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"
#include "formats/mlx_models.h"
#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {

const Format& mlx_format();

namespace {

using io::Json;

constexpr Index kGroupSizes[] = {32, 64, 128};

// ---- Limits

// Bytes of mlx.core.quantize are of the model's dtype.
quant::Grid grid_of(const PlanInputs& inputs, const model::TensorSpec& tensor,
                    const ModuleSettings& settings) {
  const std::string& dtype = inputs.request.scale_dtype;
  ScalePrecision precision = precision_of(inputs.source.at(tensor.name).dtype);
  if (dtype == "float16") precision = ScalePrecision::kF16;
  if (dtype == "bfloat16") precision = ScalePrecision::kBF16;
  quant::Grid grid = basic_grid(settings, precision);
  grid.offset_kind = OffsetKind::kMinimum;
  grid.mlx = true;
  return grid;
}

DType dtype_of(ScalePrecision precision) {
  if (precision == ScalePrecision::kF16) return DType::kF16;
  return precision == ScalePrecision::kBF16 ? DType::kBF16 : DType::kF32;
}

// ---- Packing

std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                           const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  const DType dtype = dtype_of(grid.precision);
  return {{module + ".weight", DType::kU32, {N, packed_words(K, grid.bits)}},
          {module + ".scales", dtype, {N, grid.groups(K)}},
          {module + ".biases", dtype, {N, grid.groups(K)}}};
}

std::vector<NamedBytes> pack(const std::string& module, const quant::QuantizedMatrix& q,
                             const Packing& packing) {
  require_consecutive_groups(q, "MLX");
  const quant::GroupCodes& groups = q.groups();
  const DType dtype = dtype_of(q.grid.precision);
  Matrix<std::int32_t> words(q.out_features(), packed_words(q.in_features(), q.grid.bits));
  pack_rows(groups.codes_NK, q.grid.bits, words, packing.exec);
  return {{module + ".weight", bytes_of(words)},
          {module + ".scales", stored_scales(groups.scales_NG, dtype)},
          {module + ".biases", stored_scales(groups.offsets_NG, dtype)}};
}

// ---- Unpacking

struct Parts {
  const io::TensorRef* weight;
  const io::TensorRef* scales;
  const io::TensorRef* biases;
};

// Words and groups of a row tell bits * group_size and no more, so the settings decide.
bool fits(int bits, Index group_size, Index words, Index groups) {
  return groups > 0 && words * 32 % bits == 0 && words * 32 / bits == groups * group_size;
}

struct Widths {
  int bits;
  Index group_size;
};

// The stated widths if they fit, else the first that do.
std::optional<Widths> widths_of(const Widths& stated, Index words, Index groups) {
  if (fits(stated.bits, stated.group_size, words, groups)) return stated;
  for (const int bits : {4, 8, 6, 5, 3, 2})
    for (const Index group_size : {64, 128, 32})
      if (fits(bits, group_size, words, groups)) return Widths{bits, group_size};
  return std::nullopt;
}

Widths widths_of(const Parts& parts, const std::string& module, const PackedSettings& settings) {
  Widths stated{settings.bits, settings.group_size};
  if (const auto own = settings.modules->of(module)) stated = {own->bits, own->group_size};
  if (const auto found = widths_of(stated, parts.weight->shape[1], parts.scales->shape[1]))
    return *found;
  throw Error(ErrorKind::kInput, "E174",
              fmt::format("module '{}': {} words and {} groups a row match no bits and group_size "
                          "of MLX ({} says {} bits, group_size {})",
                          module, parts.weight->shape[1], parts.scales->shape[1], settings.where,
                          stated.bits, stated.group_size));
}

quant::QuantizedMatrix unpack(const Parts& parts, const Widths& widths) {
  quant::QuantizedMatrix q;
  quant::GroupCodes& groups = q.groups();
  groups.scales_NG = scales_of(*parts.scales);
  groups.offsets_NG = scales_of(*parts.biases);
  groups.codes_NK = Matrix<std::uint8_t>::uninitialized(
      parts.weight->shape[0], groups.scales_NG.cols() * widths.group_size);
  unpack_rows(words_of(*parts.weight), widths.bits, groups.codes_NK);
  q.grid.bits = widths.bits;
  q.grid.group_size = widths.group_size;
  q.grid.offset_kind = OffsetKind::kMinimum;
  q.grid.precision = precision_of(parts.scales->dtype);
  return q;
}

PackedModule open(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                  const PackedSettings& settings) {
  const Parts parts{&part_of(checkpoint, module, "weight", {DType::kU32}),
                    &part_of(checkpoint, module, "scales", kScaleTypes),
                    &part_of(checkpoint, module, "biases", kScaleTypes)};
  const Widths widths = widths_of(parts, module, settings);
  const Index N = parts.weight->shape[0];
  const Index groups = parts.scales->shape[1];
  const std::string said = fmt::format("{} outputs at bits {}, group_size {} ({})", N, widths.bits,
                                       widths.group_size, settings.where);
  require_shape(*parts.scales, {N, groups}, said);
  require_shape(*parts.biases, {N, groups}, said);
  PackedModule result = packed_module(module, N, groups * widths.group_size,
                                      fmt::format("MLX {} bit g{}", widths.bits, widths.group_size),
                                      {parts.weight, parts.scales, parts.biases});
  result.unpack = [parts, widths] { return unpack(parts, widths); };
  return result;
}

// ---- quantization_config

Json settings_json(const ModuleSettings& settings) {
  return {{"group_size", settings.group_size}, {"bits", settings.bits}, {"mode", "affine"}};
}

// Releases of mlx-lm before 0.32 take a module's settings from here alone; later ones from its
// tensors where nothing is said.
Json write_config(const FolderContents& contents, const Provenance&) {
  Json json = settings_json(contents.usual);
  const bool wrapped = !contents.wrapper_prefix.empty();
  for (const FolderContents::Module& module : contents.modules) {
    const std::string path = mlx_path(module.name, wrapped);
    if (!module.settings)
      json[path] = false;
    else if (*module.settings != contents.usual)
      json[path] = settings_json(*module.settings);
  }
  return json;
}

void require_affine(const Json& json, const std::string& where) {
  const std::string mode = text_of(json, {"mode"}, where, "affine");
  if (mode != "affine")
    refuse_config(where, fmt::format("mode '{}' cannot be read; calque reads 'affine'", mode));
}

class Configured : public ConfiguredModules {
 public:
  explicit Configured(const Json& json) {
    read_widths_in(json, all_);
    for (const auto& [path, own] : json.members()) {
      if (own == Json(false)) own_[path] = std::nullopt;
      if (!own.is_object()) continue;
      ConfiguredSettings settings = all_;
      read_widths_in(own, settings);
      own_[path] = settings;
    }
  }

  std::optional<ConfiguredSettings> of(const std::string& module) const override {
    for (const bool wrapped : {false, true})
      if (const auto found = own_.find(mlx_path(module, wrapped)); found != own_.end())
        return found->second;
    return all_;
  }

  bool tensors_decide() const override { return true; }

 private:
  ConfiguredSettings all_;
  std::map<std::string, std::optional<ConfiguredSettings>> own_;  // by mlx-lm's paths
};

PackedSettings read_config(const Json& json, const std::string& where) {
  PackedSettings settings{.format = &mlx_format(), .where = where};
  require_affine(json, where);
  read_widths(json, {"bits"}, 64, settings);
  for (const auto& [path, own] : json.members())
    if (own.is_object()) require_affine(own, fmt::format("{}, '{}'", where, path));
  settings.modules = std::make_shared<Configured>(json);
  settings.mixed = true;
  return settings;
}

std::optional<StoredModule> stored(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  module.codes = parts.matrix(name, "weight", {DType::kU32});
  module.scales = parts.matrix(name, "scales", kScaleTypes);
  module.zeros = parts.matrix(name, "biases", kScaleTypes);
  if (!module.codes || !module.scales || !module.zeros) return std::nullopt;
  module.N = module.codes->shape[0];
  module.groups = module.scales->shape[1];
  Widths stated{4, 64};
  if (parts.configured() != nullptr)
    if (const auto own = parts.configured()->of(name)) stated = {own->bits, own->group_size};
  const auto widths = widths_of(stated, module.codes->shape[1], module.groups);
  if (widths) {
    module.bits = widths->bits;
    module.K = module.groups * widths->group_size;
  }
  if (!widths || module.scales->shape[0] != module.N ||
      module.zeros->shape != module.scales->shape || !fits_groups(module))
    return parts.contradiction(name, {module.codes, module.scales, module.zeros});
  return module;
}

std::string notes(const std::string& folder) {
  return fmt::format(
      "```sh\n# pip install mlx-lm (macOS; Linux: mlx-lm mlx[cpu] or mlx[cuda])\nmlx_lm.generate "
      "--model ./{0} --prompt \"Hello\"\nmlx_lm.server --model ./{0}\n```\n\nLM Studio loads the "
      "folder with its MLX engine.\n",
      folder);
}

}  // namespace

const Format& mlx_format() {
  static const PackedFormat packed = {
      .widths = {2, 3, 4, 5, 6, 8},
      .group_sizes = {std::begin(kGroupSizes), std::end(kGroupSizes)},
      .input_multiple = [](const ModuleSettings&) -> Index { return 1; },
      .output_multiple = [](const ModuleSettings&) -> Index { return 1; },
      .grid = grid_of,
      .check =
          [](const PlanInputs& inputs, Refusals& refusals) {
            check_mlx_models(inputs.family.config, inputs.modules, refusals);
          },
      .declare = declare,
      .pack = pack,
      .read_widths = {2, 3, 4, 5, 6, 8},
      .marker = ".biases",
      .open = open,
      .config_key = "quantization",
      .complete_config = add_mlx_keys,
      .write_config = write_config,
      .read_config = read_config,
      .stored = stored,
      .configured = [](const Json& json, std::vector<std::string>&)
          -> std::unique_ptr<ConfiguredModules> { return std::make_unique<Configured>(json); },
      .rounds_embedding = true,
      .notes = notes};
  static const Format row = packed_row(
      {.name = "mlx",
       .summary = "folder of safetensors for mlx-lm and LM Studio on Apple silicon: 2, 3, 4, 5, 6 "
                  "or 8 bits",
       .label = "MLX",
       .short_label = "MLX",
       .packs_on_device = true,
       .run_command = "mlx_lm.generate --model {} --prompt Hello",
       .packed = &packed});
  return row;
}

}  // namespace calque::formats
