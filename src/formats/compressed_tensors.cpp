// compressed-tensors folders with format "pack-quantized": codes packed along the inputs of each
// row; zero points (asymmetric grids only) packed along the outputs.
//   weight_packed I32 [N, packed_words(K)]        weight_scale F16 or BF16 [N, G]
//   weight_zero_point I32 [packed_words(N), G]    weight_shape I64 [2] = N, K
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"
#include "formats/module_patterns.h"
#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {

const Format& compressed_tensors_format();

namespace {

using io::Json;

// ---- Limits

// Widths that do not divide a word share words with the next code, and the last one is filled up.
Index codes_a_word(const ModuleSettings& settings) {
  const int bits = settings.bits;
  return bits > 0 && 32 % bits == 0 ? 32 / bits : 1;
}
Index zeros_a_word(const ModuleSettings& settings) {
  return settings.sym ? 1 : codes_a_word(settings);
}

// bfloat16 scales asked for by name are binary16 numbers, too, so that one pass over the model can
// also make a gptq or awq folder.
quant::Grid grid_of(const PlanInputs& inputs, const model::TensorSpec& tensor,
                    const ModuleSettings& settings) {
  const std::string& dtype = inputs.request.scale_dtype;
  if (dtype == "bfloat16") return basic_grid(settings, ScalePrecision::kF16AndBF16);
  const bool half = dtype == "float16" || inputs.source.at(tensor.name).dtype == DType::kF16;
  return basic_grid(settings, half ? ScalePrecision::kF16 : ScalePrecision::kBF16);
}

// ---- Packing

bool is_symmetric(const quant::Grid& grid) { return grid.offset_kind == OffsetKind::kMiddleCode; }

DType scale_dtype(const quant::Grid& grid) {
  return grid.precision == ScalePrecision::kF16 ? DType::kF16 : DType::kBF16;
}

std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                           const quant::Grid& grid) {
  const Index groups = grid.groups(K);
  std::vector<io::TensorDeclaration> tensors = {
      {module + ".weight_packed", DType::kI32, {N, packed_words(K, grid.bits)}},
      {module + ".weight_scale", scale_dtype(grid), {N, groups}},
      {module + ".weight_shape", DType::kI64, {2}}};
  if (!is_symmetric(grid))
    tensors.push_back(
        {module + ".weight_zero_point", DType::kI32, {packed_words(N, grid.bits), groups}});
  return tensors;
}

NamedBytes pack_zeros(const std::string& module, const quant::QuantizedMatrix& q,
                      const Exec& exec) {
  const Matrix<std::uint8_t> zeros_NG = stored_zeros(q);
  Matrix<std::int32_t> words(packed_words(zeros_NG.rows(), q.grid.bits), zeros_NG.cols());
  pack_columns(zeros_NG, q.grid.bits, words, exec);
  return {module + ".weight_zero_point", bytes_of(words)};
}

std::vector<NamedBytes> pack(const std::string& module, const quant::QuantizedMatrix& q,
                             const Packing& packing) {
  require_consecutive_groups(q, "compressed-tensors");
  Matrix<std::int32_t> words(q.out_features(), packed_words(q.in_features(), q.grid.bits));
  pack_rows(q.groups().codes_NK, q.grid.bits, words, packing.exec);
  const std::int64_t shape[] = {q.out_features(), q.in_features()};
  std::vector<NamedBytes> tensors = {
      {module + ".weight_packed", bytes_of(words)},
      {module + ".weight_scale", stored_scales(q.groups().scales_NG, scale_dtype(q.grid))},
      {module + ".weight_shape", bytes_of(shape, 2)}};
  if (!is_symmetric(q.grid)) tensors.push_back(pack_zeros(module, q, packing.exec));
  return tensors;
}

// ---- Unpacking

struct Parts {
  const io::TensorRef* packed = nullptr;
  const io::TensorRef* scale = nullptr;
  const io::TensorRef* zero_point = nullptr;  // null: symmetric
  const io::TensorRef* shape = nullptr;
  Index N = 0;
  Index K = 0;
};

const io::TensorRef& shape_tensor(const io::SafetensorsCheckpoint& checkpoint,
                                  const std::string& module) {
  const std::string name = module + ".weight_shape";
  const io::TensorRef* tensor = checkpoint.find(name);
  const bool good =
      tensor != nullptr && tensor->dtype == DType::kI64 && tensor->shape == std::vector<Index>{2};
  if (!good)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}' is quantized, but '{}' is missing or not a pair of I64",
                            module, name));
  return *tensor;
}

Parts find_parts(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                 const PackedSettings& settings) {
  Parts parts;
  parts.packed = &part_of(checkpoint, module, "weight_packed", {DType::kI32});
  parts.scale = &part_of(checkpoint, module, "weight_scale", kScaleTypes);
  const bool asymmetric = settings.mixed ? checkpoint.find(module + ".weight_zero_point") != nullptr
                                         : !settings.sym.value_or(true);
  if (asymmetric)
    parts.zero_point = &part_of(checkpoint, module, "weight_zero_point", {DType::kI32});
  parts.shape = &shape_tensor(checkpoint, module);
  std::int64_t sizes[2] = {};
  std::memcpy(sizes, parts.shape->bytes.data(), sizeof(sizes));
  parts.N = sizes[0];
  parts.K = sizes[1];
  return parts;
}

// Checks the stored shape against the packed words before it is used.
void check_shapes(const Parts& parts, const PackedSettings& settings) {
  const Index most = parts.packed->shape[1] * 32 / settings.bits;
  if (parts.N != parts.packed->shape[0] || parts.K < 0 || parts.K > most)
    throw Error(
        ErrorKind::kInput, "E174",
        fmt::format("tensor '{}' says [{}, {}], but '{}' of shape {} holds {} rows of at "
                    "most {} codes of {} bits",
                    parts.shape->name, parts.N, parts.K, parts.packed->name,
                    parts.packed->shape_text(), parts.packed->shape[0], most, settings.bits));
  const std::string said =
      fmt::format("{} inputs and {} outputs at num_bits {}, group_size {} ({})", parts.K, parts.N,
                  settings.bits, settings.group_size, settings.where);
  require_shape(*parts.packed, {parts.N, packed_words(parts.K, settings.bits)}, said);
  const Index groups = group_count(parts.K, settings.group_size);
  require_shape(*parts.scale, {parts.N, groups}, said);
  if (parts.zero_point != nullptr)
    require_shape(*parts.zero_point, {packed_words(parts.N, settings.bits), groups}, said);
}

quant::QuantizedMatrix unpack(const Parts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  quant::GroupCodes& groups = q.groups();
  groups.codes_NK = Matrix<std::uint8_t>::uninitialized(parts.N, parts.K);
  unpack_rows(words_of(*parts.packed), settings.bits, groups.codes_NK);
  groups.scales_NG = scales_of(*parts.scale);
  Matrix<std::uint8_t> zeros_NG;
  if (parts.zero_point != nullptr) {
    zeros_NG = Matrix<std::uint8_t>(parts.N, groups.scales_NG.cols());
    unpack_columns(words_of(*parts.zero_point), settings.bits, zeros_NG);
  }
  groups.offsets_NG = offsets_of(groups.scales_NG, zeros_NG, settings.bits);
  q.grid = basic_grid({settings.bits, settings.group_size, parts.zero_point == nullptr},
                      precision_of(parts.scale->dtype));
  if (!q.grid.divides(parts.K))
    groups.group_of_column_K = quant::consecutive_groups(parts.K, settings.group_size);
  return q;
}

PackedModule open(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                  const PackedSettings& stated) {
  if (checkpoint.find(module + ".weight_g_idx") != nullptr)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}' has activation-ordered groups ('{}.weight_g_idx'), which "
                            "calque does not read in compressed-tensors folders",
                            module, module));
  const Parts parts = find_parts(checkpoint, module, stated);
  const PackedSettings settings = settings_of_module(stated, module, parts.packed->shape[1],
                                                     parts.K, parts.K, parts.scale->shape[1]);
  check_shapes(parts, settings);
  PackedModule result =
      packed_module(module, parts.N, parts.K,
                    description("compressed-tensors", settings, parts.zero_point == nullptr),
                    {parts.packed, parts.scale, parts.shape, parts.zero_point});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

// ---- quantization_config, written

// A release whose readers know exactly these keys. It packs widths that divide a word like all
// other releases; others are one stream of bits since 0.18.
constexpr std::string_view kVersion = "0.9.4";
constexpr std::string_view kVersionOfStreams = "0.18.0";

std::string_view version_for(const FolderContents& contents) {
  const std::vector<FolderContents::Group> groups = contents.groups();
  const bool streams = std::any_of(groups.begin(), groups.end(),
                                   [](const auto& group) { return 32 % group.settings.bits != 0; });
  return streams ? kVersionOfStreams : kVersion;
}

// Readers refuse keys that they do not know.
Json weights_of(const ModuleSettings& settings) {
  const bool channel = settings.group_size < 0;
  return {{"num_bits", settings.bits},
          {"type", "int"},
          {"symmetric", settings.sym},
          {"strategy", channel ? "channel" : "group"},
          {"group_size", channel ? Json() : Json(settings.group_size)},
          {"dynamic", false},
          {"actorder", nullptr},
          {"observer", "minmax"},
          {"observer_kwargs", Json::object()},
          {"block_structure", nullptr}};
}

std::vector<std::string> as_targets(std::vector<std::string> regexes) {
  for (std::string& regex : regexes) regex = "re:" + regex;
  return regexes;
}

std::string head_target(const FolderContents& contents) {
  return contents.head == "lm_head" ? contents.head : "re:.*lm_head";
}

Json config_groups(const FolderContents& contents) {
  const std::vector<std::string> all = contents.names();
  const std::vector<FolderContents::Group> groups = contents.groups();
  Json result = Json::object();
  for (const FolderContents::Group& group : groups) {
    // Not every loader treats the head as a Linear, so it is named.
    std::vector<std::string> targets = {"Linear"};
    if (groups.size() > 1)
      targets = as_targets(contents.regexes(group.modules, all));
    else if (contents.lm_head)
      targets.push_back(head_target(contents));
    result["group_" + std::to_string(result.size())] = {{"targets", targets},
                                                        {"weights", weights_of(group.settings)},
                                                        {"input_activations", nullptr},
                                                        {"output_activations", nullptr}};
  }
  return result;
}

Json write_config(const FolderContents& contents, const Provenance&) {
  std::vector<std::string> ignored = contents.untouched();
  const bool head = !ignored.empty() && ignored.back() == "lm_head";
  if (head) ignored.pop_back();
  std::vector<std::string> ignore = as_targets(contents.regexes(ignored, contents.names()));
  if (head) ignore.push_back(head_target(contents));
  for (std::string& part : as_targets(contents.carried_regexes()))
    ignore.push_back(std::move(part));
  return {{"quant_method", "compressed-tensors"},
          {"format", "pack-quantized"},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"config_groups", config_groups(contents)},
          {"ignore", ignore},
          {"version", version_for(contents)}};
}

// ---- quantization_config, read

void set_group(const Json& group, PackedSettings& settings) {
  const Json* weights = find_any(group, {"weights"});
  if (weights == nullptr || !weights->is_object())
    refuse_config(settings.where, "config_groups has no 'weights'");
  read_widths(*weights, {"num_bits"}, -1, settings);
  settings.sym = flag_of(*weights, {"symmetric"}, settings.where).value_or(true);
}

PackedSettings read_config(const Json& json, const std::string& where) {
  PackedSettings settings{.format = &compressed_tensors_format(), .where = where};
  const std::string format = text_of(json, {"format"}, where, "");
  if (format != "pack-quantized")
    refuse_config(where, fmt::format("compressed-tensors format '{}' cannot be read; calque reads "
                                     "'pack-quantized'",
                                     format));
  const Json* groups = find_any(json, {"config_groups"});
  if (groups == nullptr || !groups->is_object() || groups->empty())
    refuse_config(where, "'config_groups' must have at least one group");
  for (const auto& [name, group] : groups->members()) set_group(group, settings);
  set_group(groups->members().front().value, settings);
  settings.mixed = groups->size() > 1;
  return settings;
}

// A list of targets: modules, expressions, or the class of every linear layer.
class Targets {
 public:
  Targets() = default;
  Targets(const std::vector<std::string>& targets, std::vector<std::string>& faults) {
    for (const std::string& target : targets) {
      if (target == "Linear") linear = true;
      if (!target.starts_with("re:"))
        exact_.push_back(target);
      else if (const auto matcher = regex_in_config(target.substr(3), faults))
        patterns_.push_back(*matcher);
    }
  }
  bool name(const std::string& module) const {
    return std::find(exact_.begin(), exact_.end(), module) != exact_.end() ||
           std::any_of(patterns_.begin(), patterns_.end(), [&](const ModuleMatcher& matcher) {
             return safely_matches(matcher, module);
           });
  }
  bool linear = false;

 private:
  std::vector<std::string> exact_;
  std::vector<ModuleMatcher> patterns_;
};

class Configured : public ConfiguredModules {
 public:
  Configured(const Json& json, std::vector<std::string>& faults)
      : ignore_(strings_in(find_any(json, {"ignore"})), faults) {
    const Json* groups = find_any(json, {"config_groups"});
    if (groups == nullptr || !groups->is_object()) return;
    for (const auto& [name, group] : groups->members()) {
      const Json* weights = find_any(group, {"weights"});
      if (weights == nullptr) continue;
      ConfiguredSettings settings{.group_size = -1};
      read_widths_in(*weights, settings);
      if (text_in(*weights, {"strategy"}) == "channel") settings.group_size = -1;
      groups_.push_back({settings, {strings_in(find_any(group, {"targets"})), faults}});
    }
  }

  // A target that names the module takes precedence over one that names its class.
  std::optional<ConfiguredSettings> of(const std::string& module) const override {
    if (ignore_.name(module) || ignore_.linear) return std::nullopt;
    for (const Group& group : groups_)
      if (group.targets.name(module)) return group.settings;
    for (const Group& group : groups_)
      if (group.targets.linear) return group.settings;
    return std::nullopt;
  }

 private:
  struct Group {
    ConfiguredSettings settings;
    Targets targets;
  };
  Targets ignore_;
  std::vector<Group> groups_;
};

// ---- A stored folder

bool read_shape(StoredParts& parts, StoredModule& module, const io::TensorRef* tensor) {
  if (tensor == nullptr || tensor->dtype != DType::kI64 || tensor->shape != std::vector<Index>{2}) {
    parts.add_fault(
        fmt::format("module '{}' is packed, but '{}.weight_shape' is missing or not a pair of I64",
                    module.name, module.name));
    return false;
  }
  std::int64_t sizes[2] = {};
  std::memcpy(sizes, tensor->bytes.data(), sizeof(sizes));
  // Upper bound of a plausible dimension.
  constexpr std::int64_t kMost = std::int64_t{1} << 32;
  if (sizes[0] < 1 || sizes[1] < 1 || sizes[0] > kMost || sizes[1] > kMost) {
    parts.add_fault(fmt::format("tensor '{}' says [{}, {}], which is not a valid shape",
                                tensor->name, sizes[0], sizes[1]));
    return false;
  }
  module.N = sizes[0];
  module.K = sizes[1];
  return true;
}

std::optional<StoredModule> stored(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  const io::TensorRef* packed = parts.matrix(name, "weight_packed", {DType::kI32});
  module.scales = parts.matrix(name, "weight_scale", kScaleTypes);
  const io::TensorRef* shape = parts.find(name + ".weight_shape");
  module.zeros = parts.find(name + ".weight_zero_point");
  if (!packed || !module.scales || !read_shape(parts, module, shape)) return std::nullopt;
  module.groups = module.scales->shape[1];
  for (int bits = 1; bits <= 8; ++bits)
    if (packed_words(module.K, bits) == packed->shape[1]) module.bits = bits;
  const bool zeros_fit =
      module.zeros == nullptr ||
      (module.zeros->dtype == DType::kI32 &&
       module.zeros->shape ==
           std::vector<Index>{packed_words(module.N, std::max(module.bits, 1)), module.groups});
  const bool good = module.bits != 0 && packed->shape[0] == module.N &&
                    module.scales->shape[0] == module.N && zeros_fit && fits_groups(module);
  if (!good) return parts.contradiction(name, {packed, module.scales, shape, module.zeros});
  return module;
}

// ---- Runtimes

bool is_four_or_eight(int bits) { return bits == 4 || bits == 8; }

std::string runtime_limit(const std::vector<int>& bits, bool all_symmetric) {
  if (!std::all_of(bits.begin(), bits.end(), is_four_or_eight))
    return fmt::format(
        "this folder has {} bits; vLLM loads other widths than 4 and 8 since version 0.32, with "
        "the "
        "package of Humming's kernels and on NVIDIA GPUs from Turing on.",
        fmt::join(bits, ", "));
  return all_symmetric
             ? ""
             : "vLLM has loaded zero points in compressed-tensors folders since April 2025.";
}

}  // namespace

const Format& compressed_tensors_format() {
  static const PackedFormat packed = {
      .widths = {2, 3, 4, 5, 6, 7, 8},
      .input_multiple = codes_a_word,
      .output_multiple = zeros_a_word,
      .grid = grid_of,
      .declare = declare,
      .pack = pack,
      .read_widths = {2, 3, 4, 5, 6, 7, 8},
      .variant = "pack-quantized",
      .marker = ".weight_packed",
      .open = open,
      .write_config = write_config,
      .read_config = read_config,
      .stored = stored,
      .configured = [](const Json& json,
                       std::vector<std::string>& faults) -> std::unique_ptr<ConfiguredModules> {
        return std::make_unique<Configured>(json, faults);
      },
      .vllm_loads = [](const quant::Grid&) { return true; },
      .vllm_advice = "",
      .runtime_limit = runtime_limit,
      .python_packages = "compressed-tensors"};
  static const Format row =
      packed_row({.name = "compressed-tensors",
                  .summary = "folder of safetensors for vLLM, SGLang, transformers: 2 to 8 bits",
                  .label = "compressed-tensors",
                  .short_label = "CT",
                  .packs_on_device = true,
                  .packed = &packed});
  return row;
}

}  // namespace calque::formats
