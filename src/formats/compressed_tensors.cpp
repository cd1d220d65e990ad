// compressed-tensors folders: limits, quantization_config, runtimes. Tensors are in
// compressed_tensors_layouts.cpp.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "calque/core/error.h"
#include "calque/formats/scheme.h"
#include "formats/compressed_tensors_layouts.h"
#include "formats/module_patterns.h"
#include "formats/packed_config.h"
#include "formats/packed_format.h"

namespace calque::formats {

const Format& compressed_tensors_format();

namespace {

using io::Json;

// The `format` of folders whose groups have formats of their own.
constexpr std::string_view kMixedFormat = "mixed-precision";

// ---- Limits

// Widths that do not divide a word share words with the next code, and the last one is filled up.
Index codes_a_word(const ModuleSettings& settings) {
  const int bits = settings.bits;
  if (layout_for({basic_grid(settings, ScalePrecision::kBF16), settings.inputs}).dtype !=
      DType::kI32)
    return 1;
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

// ---- quantization_config, written

// A release whose readers know exactly these keys. It packs widths that divide a word like all
// other releases; others are one stream of bits since 0.18. Floating-point numbers, rounded inputs
// and groups with formats of their own are written as 0.20.1 does it.
constexpr std::string_view kVersion = "0.9.4";
constexpr std::string_view kVersionOfStreams = "0.18.0";
constexpr std::string_view kVersionOfFormats = "0.20.1";

using Group = FolderContents::Group;

// True if the group's config needs the keys of kVersionOfFormats.
bool names_its_format(const Group& group) { return group.settings.number || group.settings.inputs; }

bool names_formats(const std::vector<Group>& groups) {
  return std::any_of(groups.begin(), groups.end(), names_its_format);
}

std::string_view version_for(const std::vector<Group>& groups) {
  if (names_formats(groups)) return kVersionOfFormats;
  const bool streams = std::any_of(groups.begin(), groups.end(), [](const Group& group) {
    return 32 % group.settings.bits != 0;
  });
  return streams ? kVersionOfStreams : kVersion;
}

std::string_view layout_name(const Group& group) {
  return layout_for({basic_grid(group.settings, ScalePrecision::kBF16), group.settings.inputs})
      .name;
}

// The one format of all groups, or that of folders whose groups differ.
std::string_view folder_format(const std::vector<Group>& groups) {
  const std::string_view first = layout_name(groups.front());
  const bool same = std::all_of(groups.begin(), groups.end(),
                                [&](const Group& group) { return layout_name(group) == first; });
  return same ? first : kMixedFormat;
}

constexpr std::string_view kFp8ScaleType = "torch.float8_e4m3fn";
constexpr std::string_view kPowerScaleType = "torch.uint8";

// Readers refuse keys that they do not know.
Json weights_with_format(const ModuleSettings& settings) {
  const bool all_rows = settings.scale_rows < 0;
  const bool block = settings.scale_rows > 1;
  const bool channel = settings.group_size < 0;
  const bool has_divisor = settings.coded_scales == ScalePrecision::kE4M3;
  Json json = {{"num_bits", settings.bits},
               {"type", settings.number ? "float" : "int"},
               {"symmetric", settings.sym},
               {"strategy", has_divisor ? "tensor_group"
                            : all_rows  ? "tensor"
                            : block     ? "block"
                            : channel   ? "channel"
                                        : "group"},
               {"group_size", channel || block ? Json() : Json(settings.group_size)},
               {"dynamic", false}};
  if (settings.coded_scales) json["scale_dtype"] = has_divisor ? kFp8ScaleType : kPowerScaleType;
  if (block) json["block_structure"] = std::vector<Index>{settings.scale_rows, settings.group_size};
  return json;
}

Json inputs_of(const std::optional<InputGrid>& inputs) {
  if (!inputs) return nullptr;
  const bool calibrated = inputs->scale_of == InputGrid::Scale::kTensor;
  const bool coded = inputs->scale_of == InputGrid::Scale::kCoded;
  Json json = {{"num_bits", inputs->number ? info_of(*inputs->number).bits : 8},
               {"type", inputs->number ? "float" : "int"},
               {"symmetric", true},
               {"strategy", calibrated             ? "tensor"
                            : coded                ? "tensor_group"
                            : inputs->has_groups() ? "group"
                                                   : "token"},
               {"group_size", inputs->has_groups() ? Json(inputs->group) : Json()},
               {"dynamic", coded ? Json("local") : Json(!calibrated)}};
  if (inputs->is_calibrated()) json["observer"] = "static_minmax";
  if (coded) json["scale_dtype"] = kFp8ScaleType;
  if (inputs->scale_of == InputGrid::Scale::kPower) json["scale_dtype"] = kPowerScaleType;
  return json;
}

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
  const std::vector<Group> groups = contents.groups();
  Json result = Json::object();
  for (const Group& group : groups) {
    // Not every loader treats the head as a Linear, so it is named.
    std::vector<std::string> targets = {"Linear"};
    if (groups.size() > 1)
      targets = as_targets(contents.regexes(group.modules, all));
    else if (contents.lm_head)
      targets.push_back(head_target(contents));
    Json json = {{"targets", targets}};
    if (names_formats(groups)) {
      json["weights"] = weights_with_format(group.settings);
      json["input_activations"] = inputs_of(group.settings.inputs);
      json["output_activations"] = nullptr;
      json["format"] = layout_name(group);
    } else {
      json["weights"] = weights_of(group.settings);
      json["input_activations"] = nullptr;
      json["output_activations"] = nullptr;
    }
    result["group_" + std::to_string(result.size())] = std::move(json);
  }
  return result;
}

Json kv_cache_scheme(const FolderContents& contents) {
  if (contents.kv_cache == "none") return nullptr;
  return {
      {"num_bits", 8},         {"type", "float"},
      {"symmetric", true},     {"strategy", contents.kv_cache == "fp8" ? "tensor" : "attn_head"},
      {"group_size", nullptr}, {"dynamic", false}};
}

// Other schemes have no scales in files, or none that calque knows: servers compute them.
bool has_kv_scales(const Json& json) {
  const Json* scheme = find_any(json, {"kv_cache_scheme"});
  if (scheme == nullptr || !scheme->is_object()) return false;
  ConfiguredSettings widths;
  read_widths_in(*scheme, widths);
  const std::string strategy = text_in(*scheme, {"strategy"});
  return widths.bits == 8 && text_in(*scheme, {"type"}) == "float" &&
         !flag_in(*scheme, {"dynamic"}) && (strategy == "tensor" || strategy == "attn_head");
}

Json write_config(const FolderContents& contents, const Provenance&) {
  const std::vector<Group> groups = contents.groups();
  std::vector<std::string> ignored = contents.untouched();
  const bool head = !ignored.empty() && ignored.back() == "lm_head";
  if (head) ignored.pop_back();
  std::vector<std::string> ignore = as_targets(contents.regexes(ignored, contents.names()));
  if (head) ignore.push_back(head_target(contents));
  for (std::string& part : as_targets(contents.carried_regexes()))
    ignore.push_back(std::move(part));
  Json json = {{"quant_method", "compressed-tensors"},
               {"format", folder_format(groups)},
               {"quantization_status", "compressed"},
               {"global_compression_ratio", nullptr},
               {"kv_cache_scheme", kv_cache_scheme(contents)},
               {"config_groups", config_groups(contents)},
               {"ignore", ignore},
               {"version", version_for(groups)}};
  if (!names_formats(groups)) return json;
  json["sparsity_config"] = Json::object();
  json["transform_config"] = Json::object();
  json["moe_sparsity_config"] = nullptr;
  return json;
}

// ---- quantization_config, read

// The numbers of the weights, and rows of a scale, of arguments that the package accepts.
std::optional<SmallFloat> number_in(const Json& weights, int bits) {
  if (text_in(weights, {"type"}) != "float") return std::nullopt;
  return bits == info_of(SmallFloat::kE2M1).bits ? SmallFloat::kE2M1 : SmallFloat::kE4M3;
}

// Releases before `scale_dtype` have FP8 scales with this strategy, and powers of two for groups of
// FP4 numbers.
std::optional<ScalePrecision> coded_scales_in(const Json& arguments, int bits) {
  if (text_in(arguments, {"type"}) != "float") return std::nullopt;
  const std::string strategy = text_in(arguments, {"strategy"});
  if (strategy == "tensor_group") return ScalePrecision::kE4M3;
  const bool power = text_in(arguments, {"scale_dtype"}) == kPowerScaleType || bits == 4;
  return strategy == "group" && power ? std::optional(ScalePrecision::kE8M0) : std::nullopt;
}

void read_strategy_in(const Json& weights, ConfiguredSettings& settings) {
  const std::string strategy = text_in(weights, {"strategy"});
  if (strategy == "channel") settings.group_size = -1;
  if (strategy == "tensor") settings.scale_rows = quant::Grid::kAllRows;
  const Json* block = find_any(weights, {"block_structure"});
  if (strategy != "block" || block == nullptr || !block->is_array() ||
      block->elements().size() != 2 || !block->elements()[0].is_integer() ||
      !block->elements()[1].is_integer())
    return;
  settings.scale_rows = block->elements()[0].integer();
  settings.group_size = block->elements()[1].integer();
}

// nullopt also for a rounding that calque does not know.
std::optional<InputGrid> inputs_in(const Json* arguments) {
  using Scale = InputGrid::Scale;
  if (arguments == nullptr || !arguments->is_object()) return std::nullopt;
  ConfiguredSettings widths;
  read_widths_in(*arguments, widths);
  const std::string strategy = text_in(*arguments, {"strategy"});
  const bool dynamic =
      flag_in(*arguments, {"dynamic"}) || text_in(*arguments, {"dynamic"}) == "local";
  const Json* symmetric = find_any(*arguments, {"symmetric"});
  const bool known = strategy == "tensor" ? !dynamic : dynamic;
  if ((widths.bits != 8 && widths.bits != 4) || !known ||
      (symmetric != nullptr && *symmetric == Json(false)))
    return std::nullopt;
  InputGrid grid;
  grid.number = number_in(*arguments, widths.bits);
  if (strategy == "tensor") grid.scale_of = Scale::kTensor;
  if (strategy == "group" || strategy == "tensor_group") {
    const std::optional<ScalePrecision> coded = coded_scales_in(*arguments, widths.bits);
    grid.scale_of = !coded                            ? Scale::kGroup
                    : *coded == ScalePrecision::kE4M3 ? Scale::kCoded
                                                      : Scale::kPower;
    grid.group = widths.group_size;
  }
  const bool good = strategy == "token" || strategy == "tensor"
                        ? widths.bits == 8
                        : grid.has_groups() && grid.group > 0 && grid.number;
  return good ? std::optional(grid) : std::nullopt;
}

ConfiguredSettings settings_in(const Json& group, const Json& weights) {
  ConfiguredSettings settings{.group_size = -1};
  read_widths_in(weights, settings);
  settings.number = number_in(weights, settings.bits);
  settings.coded_scales = coded_scales_in(weights, settings.bits);
  read_strategy_in(weights, settings);
  settings.inputs = inputs_in(find_any(group, {"input_activations"}));
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
      groups_.push_back(
          {settings_in(group, *weights), {strings_in(find_any(group, {"targets"})), faults}});
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

void set_group(const Json& group, PackedSettings& settings) {
  const Json* weights = find_any(group, {"weights"});
  if (weights == nullptr || !weights->is_object())
    refuse_config(settings.where, "config_groups has no 'weights'");
  read_widths(*weights, {"num_bits"}, -1, settings);
  settings.sym = flag_of(*weights, {"symmetric"}, settings.where).value_or(true);
  const ConfiguredSettings known = settings_in(group, *weights);
  const bool readable = settings.bits == 8 || (settings.bits == 4 && known.coded_scales);
  if (known.number && !readable)
    refuse_config(settings.where,
                  fmt::format("weights of {} floating-point bits, strategy {}, cannot be read; "
                              "calque reads 8, and 4 in groups",
                              settings.bits, text_in(*weights, {"strategy"})));
  if (known.scale_rows == 0 || known.scale_rows < -1 || known.group_size == 0 ||
      known.group_size < -1)
    refuse_config(settings.where,
                  fmt::format("block_structure is [{}, {}]", known.scale_rows, known.group_size));
  const Json* inputs = find_any(group, {"input_activations"});
  if (inputs != nullptr && !known.inputs)
    refuse_config(
        settings.where,
        fmt::format("input_activations {} cannot be read; calque knows 8 bits, symmetric, "
                    "a scale a token or group while the model runs, or a calibrated one, and FP4 "
                    "in groups",
                    inputs->dump()));
  settings.number = known.number;
  settings.group_size = known.group_size;
  settings.scale_rows = known.scale_rows;
  settings.coded_scales = known.coded_scales;
  settings.inputs = known.inputs;
}

PackedSettings read_config(const Json& json, const std::string& where) {
  PackedSettings settings{.format = &compressed_tensors_format(), .where = where};
  const std::string format = text_of(json, {"format"}, where, "");
  if (find_layout(format) == nullptr && format != kMixedFormat) {
    std::vector<std::string> known;
    for (const ModuleLayout& layout : layouts()) known.emplace_back(layout.name);
    refuse_config(
        where, fmt::format("compressed-tensors format '{}' cannot be read; calque reads {}", format,
                           alternatives(known)));
  }
  const Json* groups = find_any(json, {"config_groups"});
  if (groups == nullptr || !groups->is_object() || groups->empty())
    refuse_config(where, "'config_groups' must have at least one group");
  for (const auto& [name, group] : groups->members()) set_group(group, settings);
  set_group(groups->members().front().value, settings);
  settings.kv_scales = has_kv_scales(json);
  settings.mixed = groups->size() > 1;
  std::vector<std::string> faults;  // verification tells them
  if (settings.mixed) settings.modules = std::make_shared<const Configured>(json, faults);
  return settings;
}

// ---- Modules

// The layout that holds the module's tensors; if none does, the usual one, which says what is
// missing.
template <typename Find>
const ModuleLayout& layout_of(const std::string& module, const Find& find) {
  for (const ModuleLayout& layout : layouts()) {
    const io::TensorRef* codes = find(fmt::format("{}.{}", module, layout.codes));
    if (codes == nullptr || codes->dtype != layout.dtype) continue;
    if (!layout.scales) return layout;
    const io::TensorRef* scales = find(module + ".weight_scale");
    if (scales != nullptr && scales->dtype == *layout.scales) return layout;
  }
  return layouts().back();
}

PackedModule open(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                  const PackedSettings& stated) {
  PackedSettings settings = stated;
  if (stated.modules != nullptr)
    if (const std::optional<ConfiguredSettings> own = stated.modules->of(module)) {
      settings.bits = own->bits;
      settings.group_size = own->group_size;
      settings.number = own->number;
      settings.scale_rows = own->scale_rows;
      settings.coded_scales = own->coded_scales;
      settings.inputs = own->inputs;
    }
  return layout_of(module, [&](const std::string& name) { return checkpoint.find(name); })
      .open(checkpoint, module, settings);
}

std::optional<StoredModule> stored(StoredParts& parts, const std::string& module) {
  return layout_of(module, [&](const std::string& name) { return parts.find(name); })
      .stored(parts, module);
}

std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                           const StoredAs& stored) {
  return layout_for(stored).declare(module, N, K, stored);
}

std::vector<NamedBytes> pack(const std::string& module, const quant::QuantizedMatrix& q,
                             const Packing& packing) {
  return layout_for({q.grid, packing.inputs}).pack(module, q, packing);
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
      .variant = "pack-, int-, float-, naive-quantized, NVFP4, MXFP4 or MXFP8",
      .marker = ".weight_packed",
      .other_marker = ".weight_scale",
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
  static const Format row = packed_row(
      {.name = "compressed-tensors",
       .summary = "folder of safetensors for vLLM, SGLang, transformers: 2 to 8 bits, FP8, FP4",
       .label = "compressed-tensors",
       .short_label = "CT",
       .packs_on_device = true,
       .has_schemes = true,
       .packed = &packed});
  return row;
}

}  // namespace calque::formats
