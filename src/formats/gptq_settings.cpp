#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "formats/folder_contents.h"
#include "formats/module_regex.h"

namespace calque::formats {
namespace {

using Json = nlohmann::ordered_json;
using Module = FolderContents::Module;

// vLLM asks "dynamic" about the names of its fused modules, not about the parts that are stored: a
// rule that leaves these names out never fires there (formats_gptq_awq.md section 2.3).
std::string fused_name(const std::string& name) {
  const std::size_t dot = name.rfind('.');
  const std::string role = name.substr(dot + 1);
  const std::string parent = dot == std::string::npos ? "" : name.substr(0, dot + 1);
  if (role == "q_proj" || role == "k_proj" || role == "v_proj") return parent + "qkv_proj";
  if (role == "gate_proj" || role == "up_proj") return parent + "gate_up_proj";
  return "";
}

// ".mlp.experts" of ".mlp.experts.3.up_proj": all experts are one module.
std::string experts_name(const std::string& name) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = name.find(kExperts);
  return at == std::string::npos ? "" : name.substr(0, at + kExperts.size() - 1);
}

// Adds the fused modules whose parts agree; those whose parts do not are left out, because no rule
// could describe them.
std::vector<Module> with_fused(const std::vector<Module>& modules) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<std::optional<ModuleSettings>>> parts;
  for (const Module& module : modules) {
    const std::string experts = experts_name(module.name);
    for (const std::string& fused : {experts.empty() ? fused_name(module.name) : experts}) {
      if (fused.empty()) continue;
      if (parts.count(fused) == 0) order.push_back(fused);
      parts[fused].push_back(module.settings);
    }
  }
  std::vector<Module> result = modules;
  for (const std::string& fused : order) {
    const auto& settings = parts[fused];
    const bool agree = std::all_of(settings.begin(), settings.end(),
                                   [&](const auto& each) { return each == settings.front(); });
    if (agree) result.push_back({fused, settings.front()});
  }
  return result;
}

std::vector<std::string> names_where(const std::vector<Module>& modules,
                                     const std::optional<ModuleSettings>& settings) {
  std::vector<std::string> names;
  for (const Module& module : modules)
    if (module.settings == settings) names.push_back(module.name);
  return names;
}

Json override_of(const ModuleSettings& settings) {
  return {{"bits", settings.bits}, {"group_size", settings.group_size}, {"sym", settings.sym}};
}

// Modules left alone come first: some loaders take the first rule that matches, in file order.
Json dynamic_rules(const FolderContents& contents) {
  std::vector<Module> modules = with_fused(contents.modules);
  // The head is left alone because of "lm_head": false.
  if (!contents.lm_head)
    std::erase_if(modules, [](const Module& m) { return m.name == "lm_head"; });
  std::vector<std::string> all;
  for (const Module& module : modules) all.push_back(module.name);

  Json rules = Json::object();
  for (const std::string& regex : regexes_of(names_where(modules, std::nullopt), all))
    rules["-:" + regex] = Json::object();
  for (const FolderContents::Group& group : contents.groups()) {
    if (group.settings == contents.usual) continue;
    for (const std::string& regex : regexes_of(names_where(modules, group.settings), all))
      rules["+:" + regex] = override_of(group.settings);
  }
  return rules;
}

// "self_attn.q_proj" of "model.layers.3.self_attn.q_proj"; "" outside of blocks.
std::string name_in_block(const std::string& name) {
  constexpr std::string_view kLayers = ".layers.";
  const std::size_t at = name.find(kLayers);
  if (at == std::string::npos) return "";
  return name.substr(name.find('.', at + kLayers.size()) + 1);
}

// The loader of transformers replaces every Linear of a block that this list does not leave out,
// and does not know "dynamic" (formats_gptq_awq.md section 2.3). Null: every Linear is quantized.
Json modules_in_block(const FolderContents& contents) {
  std::vector<std::string> order;
  std::map<std::string, bool> quantized;
  for (const Module& module : contents.modules) {
    const std::string name = name_in_block(module.name);
    if (name.empty()) continue;
    if (quantized.count(name) == 0) order.push_back(name);
    quantized[name] |= module.settings.has_value();
  }
  Json names = Json::array();
  for (const std::string& name : order)
    if (quantized[name]) names.push_back(name);
  return names.size() == order.size() ? Json() : Json::array({names});
}

// What does not concern inference (formats_gptq_awq.md section 2.2).
Json meta_of(const FolderContents& contents, const Provenance& provenance) {
  Json meta = {{"quantizer", {provenance.quantizer}}, {"algorithm", provenance.method}};
  if (provenance.method == "gptq" || provenance.rounding == "gptq") {
    meta["damp_percent"] = provenance.damp_percent;
    meta["static_groups"] = provenance.act_order && !contents.desc_act;
    meta["true_sequential"] = true;
  }
  return meta;
}

}  // namespace

// Every key that some loader reads, in both spellings: old readers know only "quant_method" and
// "checkpoint_format".
std::string gptq_settings_json(const FolderContents& contents, const std::string& checkpoint_format,
                               const Provenance& provenance) {
  Json json = {{"bits", contents.usual.bits},
               {"group_size", contents.usual.group_size},
               {"desc_act", contents.desc_act},
               {"sym", contents.usual.sym},
               {"lm_head", contents.lm_head},
               {"method", "gptq"},
               {"quant_method", "gptq"},
               {"format", checkpoint_format},
               {"checkpoint_format", checkpoint_format},
               {"pack_dtype", "int32"}};
  if (Json rules = dynamic_rules(contents); !rules.empty()) json["dynamic"] = std::move(rules);
  if (Json names = modules_in_block(contents); !names.is_null())
    json["modules_in_block_to_quantize"] = std::move(names);
  json["meta"] = meta_of(contents, provenance);
  return json.dump();
}

}  // namespace calque::formats
