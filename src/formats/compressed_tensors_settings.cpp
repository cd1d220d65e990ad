#include <nlohmann/json.hpp>

#include "formats/folder_contents.h"
#include "formats/module_regex.h"

namespace calque::formats {
namespace {

using Json = nlohmann::ordered_json;

// A release whose readers know exactly these keys; both 4 and 8 bits are packed alike in all.
constexpr std::string_view kVersion = "0.9.4";

// Readers refuse keys that they do not know (formats_gptq_awq.md section 4).
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

Json config_groups(const FolderContents& contents) {
  const std::vector<std::string> all = contents.names();
  const std::vector<FolderContents::Group> groups = contents.groups();
  Json result = Json::object();
  for (const FolderContents::Group& group : groups) {
    // Not every loader takes the head for a Linear, so it is named.
    std::vector<std::string> targets = {"Linear"};
    if (groups.size() > 1)
      targets = as_targets(regexes_of(group.modules, all));
    else if (contents.lm_head)
      targets.push_back("lm_head");
    result["group_" + std::to_string(result.size())] = {{"targets", targets},
                                                        {"weights", weights_of(group.settings)},
                                                        {"input_activations", nullptr},
                                                        {"output_activations", nullptr}};
  }
  return result;
}

}  // namespace

std::string compressed_tensors_settings_json(const FolderContents& contents) {
  std::vector<std::string> ignored = contents.untouched();
  const bool head = !ignored.empty() && ignored.back() == "lm_head";
  if (head) ignored.pop_back();
  std::vector<std::string> ignore = as_targets(regexes_of(ignored, contents.names()));
  if (head) ignore.push_back("lm_head");
  const Json json = {{"quant_method", "compressed-tensors"},
                     {"format", "pack-quantized"},
                     {"quantization_status", "compressed"},
                     {"global_compression_ratio", nullptr},
                     {"kv_cache_scheme", nullptr},
                     {"config_groups", config_groups(contents)},
                     {"ignore", ignore},
                     {"version", kVersion}};
  return json.dump();
}

}  // namespace calque::formats
