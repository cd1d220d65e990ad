#include "formats/packed_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::formats {
namespace {

using io::Json;

constexpr KeyNames kMethod = {"quant_method", "method"};

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Null if the file is not JSON; nullopt if there is no such file.
std::optional<Json> parse(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  return io::parse_json_if_valid(io::read_file(path)).value_or(Json());
}

std::optional<Json> read_object(const std::filesystem::path& path) {
  std::optional<Json> json = parse(path);
  if (json && !json->is_object()) refuse_config(path.string(), "no JSON object");
  return json;
}

std::int64_t integer_of(const Json& object, KeyNames names, const std::string& where,
                        std::optional<std::int64_t> fallback) {
  const Json* value = find_any(object, names);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr) refuse_config(where, fmt::format("'{}' is missing", *names.begin()));
  if (!value->is_integer())
    refuse_config(where,
                  fmt::format("'{}' is {}, expected an integer", *names.begin(), value->dump()));
  return value->integer();
}

bool has_gptq_tensors(const io::SafetensorsCheckpoint& checkpoint) {
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                     [](const io::TensorRef& t) { return t.name.ends_with(".g_idx"); });
}

const Format* packed_format_named(const std::string& name) {
  const Format* format = find_format(name);
  return format != nullptr && format->packed != nullptr ? format : nullptr;
}

std::vector<std::string_view> packed_names() {
  std::vector<std::string_view> names;
  for (const Format* format : formats())
    if (format->packed != nullptr) names.push_back(format->name);
  return names;
}

// "gptq, awq (gemm) and compressed-tensors (pack-quantized)"
std::string known_methods() {
  std::vector<std::string> methods;
  for (const std::string_view name : packed_names()) {
    const std::string_view variant = find_format(name)->packed->variant;
    methods.push_back(variant.empty() ? std::string(name) : fmt::format("{} ({})", name, variant));
  }
  return fmt::format("{} and {}", fmt::join(methods.begin(), methods.end() - 1, ", "),
                     methods.back());
}

// The settings in config.json; null: there are none.
const Json* settings_in(const Json& config) {
  if (const Json* found = find_any(config, {"quantization_config"})) return found;
  for (const Format* format : formats())
    if (format->packed != nullptr && !format->packed->config_key.empty())
      if (const Json* found = config.find(std::string(format->packed->config_key));
          found != nullptr && found->is_object())
        return found;
  return nullptr;
}

// The method of settings that name none, by config.json's other keys; "" if these do not tell.
std::string unnamed_method(const Json& config) {
  for (const Format* format : formats())
    if (format->packed != nullptr && !format->packed->config_key.empty() &&
        config.find(std::string(format->packed->config_key)) != nullptr)
      return std::string(format->name);
  return "";
}

[[noreturn]] void refuse_method(const std::string& where, const std::string& method) {
  refuse_config(where, fmt::format("quant_method '{}' cannot be read; calque reads {}", method,
                                   known_methods()));
}

// Experts in MXFP4, which the checkpoint's reader decodes (model/stacked_experts.h).
constexpr const char* kMxfp4 = "mxfp4";

// AutoGPTQ's files do not name the method.
constexpr const char* kUnnamed = "gptq";

std::optional<std::int64_t> integer_in(const Json& object, KeyNames names) {
  constexpr double kLargest = 1LL << 30;  // upper bound of a plausible width or group size
  const Json* value = find_any(object, names);
  if (value == nullptr || !value->is_integer() || std::abs(value->number()) > kLargest)
    return std::nullopt;
  return value->integer();
}

// GPTQModel reads quantize_config.json before config.json.
void compare_files(const Json& config, const Json& older, std::vector<std::string>& faults) {
  ConfiguredSettings here;
  ConfiguredSettings there;
  read_widths_in(config, here);
  read_widths_in(older, there);
  if (here.bits != there.bits || here.group_size != there.group_size)
    faults.push_back(
        fmt::format("config.json says bits {}, group_size {}; quantize_config.json says bits {}, "
                    "group_size {}. Some loaders read one, some the other: make them agree.",
                    here.bits, here.group_size, there.bits, there.group_size));
}

}  // namespace

const Json* find_any(const Json& object, KeyNames names) {
  for (const char* name : names) {
    const Json* found = object.find(name);
    if (found != nullptr && !found->is_null()) return found;
  }
  return nullptr;
}

void refuse_config(const std::string& where, const std::string& reason) {
  throw Error(ErrorKind::kInput, "E174", where + ": " + reason);
}

std::string text_of(const Json& object, KeyNames names, const std::string& where,
                    std::string fallback) {
  const Json* value = find_any(object, names);
  if (value == nullptr) return fallback;
  if (!value->is_string())
    refuse_config(where,
                  fmt::format("'{}' is {}, expected a string", *names.begin(), value->dump()));
  return lower(value->string());
}

std::optional<bool> flag_of(const Json& object, KeyNames names, const std::string& where) {
  const Json* value = find_any(object, names);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool())
    refuse_config(where,
                  fmt::format("'{}' is {}, expected true or false", *names.begin(), value->dump()));
  return value->boolean();
}

void read_widths(const Json& json, KeyNames bits_names, Index default_group_size,
                 PackedSettings& settings) {
  const std::vector<int>& widths = settings.format->packed->read_widths;
  const std::int64_t bits = integer_of(json, bits_names, settings.where, std::nullopt);
  if (std::find(widths.begin(), widths.end(), bits) == widths.end()) {
    std::vector<std::string> known;
    for (const int width : widths) known.push_back(std::to_string(width));
    refuse_config(settings.where,
                  fmt::format("bits is {}; this layout stores {} bits", bits, alternatives(known)));
  }
  settings.bits = static_cast<int>(bits);
  settings.group_size =
      integer_of(json, {"group_size", "q_group_size"}, settings.where, default_group_size);
  if (settings.group_size == 0 || settings.group_size < -1)
    refuse_config(settings.where, fmt::format("group_size is {}", settings.group_size));
}

void read_dynamic_rules(const Json& json, PackedSettings& settings) {
  const Json* rules = find_any(json, {"dynamic"});
  if (rules == nullptr || !rules->is_object()) return;
  bool some_differ = false;  // the zero points of each module decide which are symmetric
  for (const auto& [pattern, change] : rules->members()) {
    if (pattern.starts_with("-:") || change == Json() || change == Json::object()) continue;
    settings.mixed = true;
    const bool own_sym = change.is_object() && change.contains("sym") && settings.sym &&
                         change.at("sym") != Json(*settings.sym);
    some_differ |= own_sym;
  }
  if (some_differ) settings.sym.reset();
}

void refuse_unknown_method(const std::filesystem::path& folder) {
  const std::optional<Json> json = parse(folder / "config.json");
  const Json* nested = json ? settings_in(*json) : nullptr;
  if (nested == nullptr || !nested->is_object()) return;
  const std::string where = (folder / "config.json").string() + ", quantization_config";
  const std::string unnamed = unnamed_method(*json);
  const std::string method = text_of(*nested, kMethod, where, unnamed.empty() ? kUnnamed : unnamed);
  if (method != kMxfp4 && packed_format_named(method) == nullptr) refuse_method(where, method);
}

std::optional<PackedSettings> packed_settings(const std::filesystem::path& folder,
                                              const io::SafetensorsCheckpoint& checkpoint) {
  // Every loader reads config.json; the other files exist only for older tools.
  std::optional<Json> json = read_object(folder / "config.json");
  std::string where = (folder / "config.json").string() + ", quantization_config";
  const Json* nested = json ? settings_in(*json) : nullptr;
  const std::string unnamed = json ? unnamed_method(*json) : "";
  if (nested != nullptr) {
    json = Json(*nested);
  } else {
    json.reset();
    for (const char* name : {"quantize_config.json", "quant_config.json"})
      if (!json && (json = read_object(folder / name))) where = (folder / name).string();
  }
  if (!json) return std::nullopt;
  if (!json->is_object()) refuse_config(where, "no JSON object");

  const std::string method =
      text_of(*json, kMethod, where, has_gptq_tensors(checkpoint) ? kUnnamed : unnamed);
  if (const Format* format = packed_format_named(method))
    return format->packed->read_config(*json, where);
  if (method == kMxfp4) return std::nullopt;
  refuse_method(where, method);
}

std::string text_in(const Json& object, KeyNames names) {
  const Json* value = find_any(object, names);
  return value != nullptr && value->is_string() ? lower(value->string()) : "";
}

bool flag_in(const Json& object, KeyNames names) {
  const Json* value = find_any(object, names);
  return value != nullptr && value->is_bool() && value->boolean();
}

std::vector<std::string> strings_in(const Json* list) {
  std::vector<std::string> result;
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& item : list->elements())
    if (item.is_string()) result.push_back(item.string());
  return result;
}

void read_widths_in(const Json& object, ConfiguredSettings& settings) {
  if (const auto bits = integer_in(object, {"bits", "w_bit", "wbits", "num_bits"}))
    settings.bits = static_cast<int>(*bits);
  if (const auto group_size = integer_in(object, {"group_size", "q_group_size"}))
    settings.group_size = *group_size;
}

std::optional<ModuleMatcher> regex_in_config(const std::string& pattern,
                                             std::vector<std::string>& faults) {
  try {
    return ModuleMatcher("re:" + pattern);
  } catch (const Error& error) {
    faults.push_back(std::string("quantization_config: ") + error.what());
    return std::nullopt;
  }
}

bool safely_matches(const ModuleMatcher& matcher, const std::string& module) {
  try {
    return matcher.matches(module);
  } catch (const Error&) {
    return false;
  }
}

std::unique_ptr<ConfiguredModules> configured_modules(const std::filesystem::path& folder,
                                                      std::vector<std::string>& faults) {
  const Json config = parse(folder / "config.json").value_or(Json());
  if (!config.is_object()) {
    faults.emplace_back("config.json is missing or not a JSON object. Download it again.");
    return nullptr;
  }
  Json older = parse(folder / "quantize_config.json").value_or(Json());
  if (!older.is_object()) older = parse(folder / "quant_config.json").value_or(Json());
  const Json* nested = settings_in(config);
  if (nested == nullptr && !older.is_object()) return nullptr;
  const Json json = nested != nullptr ? *nested : older;
  if (nested != nullptr && older.is_object()) compare_files(json, older, faults);

  std::string method = text_in(json, kMethod);
  if (method.empty()) method = unnamed_method(config);
  if (const Format* format = packed_format_named(method.empty() ? kUnnamed : method)) {
    std::unique_ptr<ConfiguredModules> configured = format->packed->configured(json, faults);
    configured->format = format;
    return configured;
  }
  if (method == kMxfp4) return nullptr;
  faults.push_back(fmt::format("quant_method '{}' is not one that calque knows ({})", method,
                               fmt::join(packed_names(), ", ")));
  return nullptr;
}

}  // namespace calque::formats
