#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "formats/packed_folder.h"
#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::formats {
namespace {

using Json = nlohmann::json;
using Layout = PackedSettings::Layout;

[[noreturn]] void refuse(const std::string& where, const std::string& reason) {
  throw Error(ErrorKind::kInput, "", where + ": " + reason);
}

std::optional<Json> read_json(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  Json json = Json::parse(io::read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) refuse(path.string(), "no JSON object");
  return json;
}

// The first of `names` (spellings of one key) that is present and not null.
const Json* find_any(const Json& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found != object.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::string text_of(const Json& object, std::initializer_list<const char*> names,
                    const std::string& where, std::string fallback) {
  const Json* value = find_any(object, names);
  if (value == nullptr) return fallback;
  if (!value->is_string())
    refuse(where, fmt::format("'{}' is {}, expected a string", *names.begin(), value->dump()));
  std::string text = value->get<std::string>();
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

std::int64_t integer_of(const Json& object, std::initializer_list<const char*> names,
                        const std::string& where, std::optional<std::int64_t> fallback) {
  const Json* value = find_any(object, names);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr) refuse(where, fmt::format("'{}' is missing", *names.begin()));
  if (!value->is_number_integer())
    refuse(where, fmt::format("'{}' is {}, expected an integer", *names.begin(), value->dump()));
  return value->get<std::int64_t>();
}

std::optional<bool> flag_of(const Json& object, std::initializer_list<const char*> names,
                            const std::string& where) {
  const Json* value = find_any(object, names);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean())
    refuse(where, fmt::format("'{}' is {}, expected true or false", *names.begin(), value->dump()));
  return value->get<bool>();
}

void set_widths(const Json& json, std::initializer_list<const char*> bits_names,
                PackedSettings& settings) {
  const std::int64_t bits = integer_of(json, bits_names, settings.where, std::nullopt);
  const bool four_only = settings.layout == Layout::kAwqGemm;
  const bool known = four_only ? bits == 4 : bits == 2 || bits == 3 || bits == 4 || bits == 8;
  if (!known)
    refuse(settings.where, fmt::format("bits is {}; this layout stores {}", bits,
                                       four_only ? "4 bits" : "2, 3, 4 or 8 bits"));
  settings.bits = static_cast<int>(bits);
  settings.group_size = integer_of(json, {"group_size", "q_group_size"}, settings.where,
                                   settings.layout == Layout::kCompressedTensors ? -1 : 128);
  if (settings.group_size == 0 || settings.group_size < -1)
    refuse(settings.where, fmt::format("group_size is {}", settings.group_size));
}

// Rules that give single modules bits or groups of their own; those that only leave modules alone
// ("-:...") mean nothing here, because modules are found by their tensors.
void read_dynamic_rules(const Json& json, PackedSettings& settings) {
  const Json* rules = find_any(json, {"dynamic"});
  if (rules == nullptr || !rules->is_object()) return;
  bool some_differ = false;  // symmetric modules and others: the zero points of each have to tell
  for (const auto& [pattern, change] : rules->items()) {
    if (pattern.starts_with("-:") || change.empty()) continue;
    settings.mixed = true;
    const bool own_sym = change.is_object() && change.contains("sym") && settings.sym &&
                         change["sym"] != *settings.sym;
    some_differ |= own_sym;
  }
  if (some_differ) settings.sym.reset();
}

PackedSettings gptq_settings(const Json& json, const std::string& where) {
  PackedSettings settings;
  settings.where = where;
  set_widths(json, {"bits", "w_bit", "wbits"}, settings);
  settings.sym = flag_of(json, {"sym"}, where);
  read_dynamic_rules(json, settings);
  settings.desc_act = flag_of(json, {"desc_act"}, where).value_or(false);
  // Without the key the file is v1.
  const std::string format = text_of(json, {"checkpoint_format", "format"}, where, "gptq");
  if (format != "gptq" && format != "gptq_v2")
    refuse(where, fmt::format("checkpoint_format '{}' cannot be read; calque reads 'gptq' and "
                              "'gptq_v2'",
                              format));
  settings.v2 = format == "gptq_v2";
  return settings;
}

PackedSettings awq_settings(const Json& json, const std::string& where) {
  PackedSettings settings;
  settings.layout = Layout::kAwqGemm;
  settings.where = where;
  const std::string version = text_of(json, {"version", "format"}, where, "gemm");
  if (version != "gemm")
    refuse(where, fmt::format("AWQ version '{}' cannot be read; calque reads 'gemm'", version));
  set_widths(json, {"bits", "w_bit"}, settings);
  read_dynamic_rules(json, settings);
  return settings;
}

void set_group(const Json& group, PackedSettings& settings) {
  const Json* weights = group.is_object() ? find_any(group, {"weights"}) : nullptr;
  if (weights == nullptr || !weights->is_object())
    refuse(settings.where, "config_groups has no 'weights'");
  set_widths(*weights, {"num_bits"}, settings);
  settings.sym = flag_of(*weights, {"symmetric"}, settings.where).value_or(true);
}

PackedSettings compressed_tensors_settings(const Json& json, const std::string& where) {
  PackedSettings settings;
  settings.layout = Layout::kCompressedTensors;
  settings.where = where;
  const std::string format = text_of(json, {"format"}, where, "");
  if (format != "pack-quantized")
    refuse(where, fmt::format("compressed-tensors format '{}' cannot be read; calque reads "
                              "'pack-quantized'",
                              format));
  const Json* groups = find_any(json, {"config_groups"});
  if (groups == nullptr || !groups->is_object() || groups->empty())
    refuse(where, "'config_groups' must hold a group at least");
  for (const Json& group : *groups) set_group(group, settings);
  set_group(groups->front(), settings);
  settings.mixed = groups->size() > 1;
  return settings;
}

bool has_gptq_tensors(const io::SafetensorsCheckpoint& checkpoint) {
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                     [](const io::TensorRef& t) { return t.name.ends_with(".g_idx"); });
}

}  // namespace

std::optional<PackedSettings> packed_settings(const std::filesystem::path& folder,
                                              const io::SafetensorsCheckpoint& checkpoint) {
  // config.json is what every loader reads; the others are older tools' only place.
  std::optional<Json> json = read_json(folder / "config.json");
  std::string where = (folder / "config.json").string() + ", quantization_config";
  const Json* nested = json ? find_any(*json, {"quantization_config"}) : nullptr;
  if (nested != nullptr) {
    json = Json(*nested);
  } else {
    json.reset();
    for (const char* name : {"quantize_config.json", "quant_config.json"})
      if (!json && (json = read_json(folder / name))) where = (folder / name).string();
  }
  if (!json) return std::nullopt;
  if (!json->is_object()) refuse(where, "no JSON object");

  // Files of AutoGPTQ do not name the method.
  const std::string method =
      text_of(*json, {"quant_method", "method"}, where, has_gptq_tensors(checkpoint) ? "gptq" : "");
  if (method == "gptq") return gptq_settings(*json, where);
  if (method == "awq") return awq_settings(*json, where);
  if (method == "compressed-tensors") return compressed_tensors_settings(*json, where);
  refuse(where, fmt::format("quant_method '{}' cannot be read; calque reads gptq, awq (gemm) and "
                            "compressed-tensors (pack-quantized)",
                            method));
}

}  // namespace calque::formats
