// quantization_config, read the way loaders read it and apart from calque's own reader, so that the
// two can disagree.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/module_matcher.h"
#include "verify/verify_parts.h"
#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::verify {
namespace {

using Json = nlohmann::json;

const Json* find_any(const Json& object, std::initializer_list<const char*> names) {
  if (!object.is_object()) return nullptr;
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found != object.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::string text_of(const Json& object, std::initializer_list<const char*> names) {
  const Json* value = find_any(object, names);
  if (value == nullptr || !value->is_string()) return "";
  std::string text = value->get<std::string>();
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

template <typename Number>
void read_integer(const Json& object, std::initializer_list<const char*> names, Number& number) {
  const Json* value = find_any(object, names);
  if (value != nullptr && value->is_number_integer()) number = value->get<Number>();
}

void read_widths(const Json& object, MeantSettings& settings) {
  read_integer(object, {"bits", "w_bit", "wbits", "num_bits"}, settings.bits);
  read_integer(object, {"group_size", "q_group_size"}, settings.group_size);
}

std::vector<std::string> strings_of(const Json* list) {
  std::vector<std::string> result;
  if (list == nullptr || !list->is_array()) return result;
  for (const Json& item : *list)
    if (item.is_string()) result.push_back(item.get<std::string>());
  return result;
}

// Anchored at the start, as Python's re.match. nullopt (and a fault): no regular expression.
std::optional<formats::ModuleMatcher> regex_of(const std::string& pattern, Findings& findings) {
  try {
    return formats::ModuleMatcher("re:" + pattern);
  } catch (const Error& error) {
    findings.fault("config", std::string("quantization_config: ") + error.what());
    return std::nullopt;
  }
}

// A pattern that takes too long decides nothing.
bool safely_matches(const formats::ModuleMatcher& matcher, const std::string& module) {
  try {
    return matcher.matches(module);
  } catch (const Error&) {
    return false;
  }
}

class GptqModules : public MeantModules {
 public:
  GptqModules(const Json& json, Findings& findings) {
    read_widths(json, all_);
    const std::string format = text_of(json, {"checkpoint_format", "format"});
    zeros_minus_one = format != "gptq_v2";
    const Json* head = find_any(json, {"lm_head"});
    head_ = head != nullptr && head->is_boolean() && head->get<bool>();
    if (const Json* lists = find_any(json, {"modules_in_block_to_quantize"}))
      for (const Json& list : *lists)
        for (const std::string& name : strings_of(&list)) in_block_.push_back("." + name);
    const Json* rules = find_any(json, {"dynamic"});
    if (rules == nullptr || !rules->is_object()) return;
    for (const auto& [key, change] : rules->items()) add_rule(key, change, findings);
    // GPTQModel looks at the negative rules first.
    std::stable_sort(rules_.begin(), rules_.end(),
                     [](const Rule& a, const Rule& b) { return a.skip && !b.skip; });
  }

  std::optional<MeantSettings> of(const std::string& module) const override {
    for (const Rule& rule : rules_)
      if (safely_matches(rule.matcher, module)) {
        if (rule.skip) return std::nullopt;
        MeantSettings settings = all_;
        read_widths(rule.change, settings);
        return settings;
      }
    if (module == "lm_head") return head_ ? std::optional(all_) : std::nullopt;
    const bool listed = in_block_.empty() || std::any_of(in_block_.begin(), in_block_.end(),
                                                         [&](const std::string& name) {
                                                           return module.ends_with(name);
                                                         });
    return listed ? std::optional(all_) : std::nullopt;
  }

 private:
  struct Rule {
    bool skip = false;
    formats::ModuleMatcher matcher;
    Json change;
  };

  void add_rule(std::string pattern, const Json& change, Findings& findings) {
    const bool skip = pattern.starts_with("-:");
    if (skip || pattern.starts_with("+:")) pattern.erase(0, 2);
    if (const auto matcher = regex_of(pattern, findings))
      rules_.push_back({skip, *matcher, change});
  }

  MeantSettings all_{.bits = 4, .group_size = 128};
  bool head_ = false;
  std::vector<std::string> in_block_;  // suffixes of module names
  std::vector<Rule> rules_;
};

class AwqModules : public MeantModules {
 public:
  explicit AwqModules(const Json& json) {
    awq = true;
    read_widths(json, all_);
    left_alone_ = strings_of(find_any(json, {"modules_to_not_convert"}));
    const Json* head = find_any(json, {"lm_head"});
    head_ = head != nullptr && head->is_boolean() && head->get<bool>();
  }

  // A substring of the module's path is enough.
  std::optional<MeantSettings> of(const std::string& module) const override {
    const bool alone = std::any_of(
        left_alone_.begin(), left_alone_.end(),
        [&](const std::string& part) { return module.find(part) != std::string::npos; });
    if (alone || (module == "lm_head" && !head_)) return std::nullopt;
    return all_;
  }

 private:
  MeantSettings all_{.bits = 4, .group_size = 128};
  bool head_ = false;
  std::vector<std::string> left_alone_;
};

class CompressedModules : public MeantModules {
 public:
  CompressedModules(const Json& json, Findings& findings) {
    ignore_ = Names(strings_of(find_any(json, {"ignore"})), findings);
    const Json* groups = find_any(json, {"config_groups"});
    if (groups == nullptr || !groups->is_object()) return;
    for (const auto& [name, group] : groups->items()) {
      const Json* weights = find_any(group, {"weights"});
      if (weights == nullptr) continue;
      Group parsed;
      parsed.settings.group_size = -1;
      read_widths(*weights, parsed.settings);
      if (text_of(*weights, {"strategy"}) == "channel") parsed.settings.group_size = -1;
      parsed.targets = Names(strings_of(find_any(group, {"targets"})), findings);
      groups_.push_back(std::move(parsed));
    }
  }

  // A target that names the module goes before one that names its class.
  std::optional<MeantSettings> of(const std::string& module) const override {
    if (ignore_.name(module) || ignore_.linear) return std::nullopt;
    for (const Group& group : groups_)
      if (group.targets.name(module)) return group.settings;
    for (const Group& group : groups_)
      if (group.targets.linear) return group.settings;
    return std::nullopt;
  }

 private:
  struct Names {
    Names() = default;
    Names(const std::vector<std::string>& targets, Findings& findings) {
      for (const std::string& target : targets) {
        if (target == "Linear") linear = true;
        if (!target.starts_with("re:"))
          exact.push_back(target);
        else if (const auto matcher = regex_of(target.substr(3), findings))
          patterns.push_back(*matcher);
      }
    }
    bool name(const std::string& module) const {
      return std::find(exact.begin(), exact.end(), module) != exact.end() ||
             std::any_of(patterns.begin(), patterns.end(), [&](const formats::ModuleMatcher& matcher) {
               return safely_matches(matcher, module);
             });
    }
    bool linear = false;  // the class of every linear layer
    std::vector<std::string> exact;
    std::vector<formats::ModuleMatcher> patterns;
  };
  struct Group {
    MeantSettings settings;
    Names targets;
  };

  Names ignore_;
  std::vector<Group> groups_;
};

Json object_in(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  return Json::parse(io::read_file(path), nullptr, /*allow_exceptions=*/false);
}

// GPTQModel reads quantize_config.json before config.json.
void compare_files(const Json& config, const Json& older, Findings& findings) {
  MeantSettings here;
  MeantSettings there;
  read_widths(config, here);
  read_widths(older, there);
  if (here.bits != there.bits || here.group_size != there.group_size)
    findings.fault("config", fmt::format("config.json says bits {}, group_size {}; "
                                         "quantize_config.json says bits {}, group_size {}. Some "
                                         "loaders read the one, some the other: make them agree.",
                                         here.bits, here.group_size, there.bits, there.group_size));
}

}  // namespace

std::unique_ptr<MeantModules> meant_modules(const std::filesystem::path& folder,
                                            Findings& findings) {
  const Json config = object_in(folder / "config.json");
  if (!config.is_object()) {
    findings.fault("config", "config.json is missing or no JSON object. Fetch it again.");
    return nullptr;
  }
  Json older = object_in(folder / "quantize_config.json");
  if (!older.is_object()) older = object_in(folder / "quant_config.json");
  const Json* nested = find_any(config, {"quantization_config"});
  if (nested == nullptr && !older.is_object()) return nullptr;
  const Json json = nested != nullptr ? *nested : older;
  if (nested != nullptr && older.is_object()) compare_files(json, older, findings);

  // AutoGPTQ's files do not name the method.
  const std::string method = text_of(json, {"quant_method", "method"});
  if (method == "gptq" || method.empty()) return std::make_unique<GptqModules>(json, findings);
  if (method == "awq") return std::make_unique<AwqModules>(json);
  if (method == "compressed-tensors") return std::make_unique<CompressedModules>(json, findings);
  findings.fault("config", fmt::format("quant_method '{}' is none that calque knows (gptq, awq, "
                                       "compressed-tensors)",
                                       method));
  return nullptr;
}

}  // namespace calque::verify
