// AWQ folders in the GEMM layout: packed along the outputs, eight 4-bit codes per word with
// permuted nibbles. Zero points are stored without an offset, as the middle code (8) for symmetric
// grids, because loaders' fast kernels need zero points. There is no g_idx.
//   qweight I32 [K, N / 8]   qzeros I32 [G, N / 8]   scales F16 [G, N]
#include <fmt/format.h>

#include <algorithm>

#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {

const Format& awq_format();

namespace {

using io::Json;

constexpr Index kPerWord = 8;
// Nibble i of word c holds column 8c + kColumnOf[i].
constexpr int kColumnOf[kPerWord] = {0, 2, 4, 6, 1, 3, 5, 7};

// ---- Limits

quant::Grid grid_of(const PlanInputs& inputs, const model::TensorSpec&,
                    const ModuleSettings& settings) {
  return basic_grid(settings, half_precision(inputs.request));
}

// ---- Packing

// codes [N, R] -> words [R, N / 8]
Matrix<std::int32_t> pack_nibbles(MatrixView<const std::uint8_t> codes_NR) {
  Matrix<std::int32_t> words(codes_NR.cols(), codes_NR.rows() / kPerWord);
  for (Index r = 0; r < words.rows(); ++r)
    for (Index c = 0; c < words.cols(); ++c) {
      std::uint32_t word = 0;
      for (int i = 0; i < kPerWord; ++i)
        word |= static_cast<std::uint32_t>(codes_NR(c * kPerWord + kColumnOf[i], r)) << (4 * i);
      words(r, c) = static_cast<std::int32_t>(word);
    }
  return words;
}

// words [R, N / 8] -> codes [N, R]
Matrix<std::uint8_t> unpack_nibbles(const Matrix<std::int32_t>& words) {
  auto codes_NR = Matrix<std::uint8_t>::uninitialized(words.cols() * kPerWord, words.rows());
  for (Index r = 0; r < words.rows(); ++r)
    for (Index c = 0; c < words.cols(); ++c) {
      const auto word = static_cast<std::uint32_t>(words(r, c));
      for (int i = 0; i < kPerWord; ++i)
        codes_NR(c * kPerWord + kColumnOf[i], r) = static_cast<std::uint8_t>(word >> (4 * i) & 15);
    }
  return codes_NR;
}

std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                           const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  const Index groups = grid.groups(K);
  return {{module + ".qweight", DType::kI32, {K, N / kPerWord}},
          {module + ".qzeros", DType::kI32, {groups, N / kPerWord}},
          {module + ".scales", DType::kF16, {groups, N}}};
}

// Runs on the host: kernels/pack_bits.h has no such order of fields.
std::vector<NamedBytes> pack(const std::string& module, const quant::QuantizedMatrix& q,
                             const Packing&) {
  require_consecutive_groups(q, "AWQ");
  return {{module + ".qweight", bytes_of(pack_nibbles(q.groups().codes_NK))},
          {module + ".qzeros", bytes_of(pack_nibbles(stored_zeros(q)))},
          {module + ".scales", stored_scales(transposed(q.groups().scales_NG), DType::kF16)}};
}

// ---- Unpacking

struct Parts {
  const io::TensorRef* qweight;
  const io::TensorRef* qzeros;
  const io::TensorRef* scales;
};

quant::QuantizedMatrix unpack(const Parts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  quant::GroupCodes& groups = q.groups();
  groups.codes_NK = unpack_nibbles(words_of(*parts.qweight));
  groups.scales_NG = transposed(scales_of(*parts.scales));
  groups.offsets_NG =
      offsets_of(groups.scales_NG, unpack_nibbles(words_of(*parts.qzeros)), settings.bits);
  q.grid = basic_grid({settings.bits, settings.group_size, /*sym=*/false},
                      precision_of(parts.scales->dtype));
  if (!q.grid.divides(q.in_features()))
    groups.group_of_column_K = quant::consecutive_groups(q.in_features(), settings.group_size);
  return q;
}

PackedModule open(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                  const PackedSettings& stated) {
  const Parts parts{&part_of(checkpoint, module, "qweight", {DType::kI32}),
                    &part_of(checkpoint, module, "qzeros", {DType::kI32}),
                    &part_of(checkpoint, module, "scales", kScaleTypes)};
  const Index K = parts.qweight->shape[0];
  const Index N = parts.qweight->shape[1] * kPerWord;
  const PackedSettings settings =
      settings_of_module(stated, module, parts.qweight->shape[1], N, K, parts.scales->shape[0]);
  const Index groups = group_count(K, settings.group_size);
  const std::string said = fmt::format("{} inputs and {} outputs at bits 4, group_size {} ({})", K,
                                       N, settings.group_size, settings.where);
  require_shape(*parts.scales, {groups, N}, said);
  require_shape(*parts.qzeros, {groups, N / kPerWord}, said);
  PackedModule result = packed_module(module, N, K, description("AWQ", settings, false),
                                      {parts.qweight, parts.qzeros, parts.scales});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

// ---- quantization_config

// Loaders search module paths for the list's names as substrings, so the list holds full paths:
// "gate" alone would also match gate_proj. Names in a wrapper begin behind its prefix.
std::vector<std::string> left_alone(const FolderContents& contents) {
  std::vector<std::string> names = contents.untouched();
  for (std::string& name : names)
    if (name.starts_with(contents.wrapper_prefix)) name.erase(0, contents.wrapper_prefix.size());
  for (const std::string& part : contents.carried)
    names.push_back(part.find('.') == std::string::npos ? part : part + ".");
  return names;
}

Json write_config(const FolderContents& contents, const Provenance&) {
  Json json = {{"quant_method", "awq"},
               {"bits", contents.usual.bits},
               {"group_size", contents.usual.group_size},
               {"zero_point", true},
               {"version", "gemm"},
               {"modules_to_not_convert", left_alone(contents)}};
  if (contents.lm_head) json["lm_head"] = true;
  return json;
}

PackedSettings read_config(const Json& json, const std::string& where) {
  PackedSettings settings{.format = &awq_format(), .where = where};
  const std::string version = text_of(json, {"version", "format"}, where, "gemm");
  if (version != "gemm")
    refuse_config(where,
                  fmt::format("AWQ version '{}' cannot be read; calque reads 'gemm'", version));
  read_widths(json, {"bits", "w_bit"}, 128, settings);
  read_dynamic_rules(json, settings);
  return settings;
}

class Configured : public ConfiguredModules {
 public:
  explicit Configured(const Json& json)
      : head_(flag_in(json, {"lm_head"})),
        left_alone_(strings_in(find_any(json, {"modules_to_not_convert"}))) {
    read_widths_in(json, all_);
  }

  // Matches if a name of the list is a substring of the module's path.
  std::optional<ConfiguredSettings> of(const std::string& module) const override {
    const bool alone = std::any_of(
        left_alone_.begin(), left_alone_.end(),
        [&](const std::string& part) { return module.find(part) != std::string::npos; });
    if (alone || (module.ends_with("lm_head") && !head_)) return std::nullopt;
    return all_;
  }

 private:
  ConfiguredSettings all_;
  bool head_;
  std::vector<std::string> left_alone_;
};

std::optional<StoredModule> stored(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name, .bits = 4};
  const io::TensorRef* qweight = parts.matrix(name, "qweight", {DType::kI32});
  module.zeros = parts.matrix(name, "qzeros", {DType::kI32});
  module.scales = parts.matrix(name, "scales", kScaleTypes);
  if (!qweight || !module.zeros || !module.scales) return std::nullopt;
  module.K = qweight->shape[0];
  module.N = qweight->shape[1] * kPerWord;
  module.groups = module.scales->shape[0];
  const bool good = module.scales->shape[1] == module.N &&
                    module.zeros->shape == std::vector<Index>{module.groups, module.N / kPerWord} &&
                    fits_groups(module);
  if (!good) return parts.contradiction(name, {qweight, module.zeros, module.scales});
  return module;
}

}  // namespace

const Format& awq_format() {
  static const PackedFormat packed = {
      .widths = {4},
      .one_group_size = true,
      .input_multiple = [](const ModuleSettings&) -> Index { return 1; },
      .output_multiple = [](const ModuleSettings&) { return kPerWord; },
      .grid = grid_of,
      .declare = declare,
      .pack = pack,
      .read_widths = {4},
      .variant = "gemm",
      .marker = ".qweight",
      .open = open,
      .write_config = write_config,
      .read_config = read_config,
      .stored = stored,
      .configured = [](const Json& json, std::vector<std::string>&)
          -> std::unique_ptr<ConfiguredModules> { return std::make_unique<Configured>(json); },
      .vllm_loads = [](const quant::Grid& grid) { return grid.bits == 4; },
      .vllm_advice = "vLLM loads AWQ folders of 4 bits only; write bits: 4",
      .runtime_limit = [](const std::vector<int>&, bool) { return std::string(); },
      .python_packages = "gptqmodel"};
  static const Format row =
      packed_row({.name = "awq",
                  .summary = "folder of safetensors for vLLM, SGLang, transformers: 4 bits",
                  .label = "AWQ",
                  .short_label = "AWQ",
                  .packed = &packed});
  return row;
}

}  // namespace calque::formats
