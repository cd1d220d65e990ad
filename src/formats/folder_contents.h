#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/model/family.h"
#include "formats/module_rules.h"

namespace calque::formats {

// The contents of a folder's settings file: every Linear of the model and how it is stored.
struct FolderContents {
  struct Module {
    std::string name;
    std::optional<ModuleSettings> settings;  // nullopt: not quantized
  };
  std::vector<Module> modules;  // includes routers and shared experts' gates; lm_head is last
  ModuleSettings usual;         // those of most modules
  bool lm_head = false;         // is quantized
  bool all_sym = true;
  std::string checkpoint_format = "auto";  // as in ExportRequest
  std::string kv_cache = "none";           // likewise
  // Groups are in activation order, so they need not be consecutive. Follows from the plan alone,
  // so that the settings have the same size before and after rounding.
  bool desc_act = false;
  // In front of the names of a wrapper's language model; "": not wrapped. Loaders have other names
  // there than files, so patterns begin behind it.
  std::string wrapper_prefix;
  std::string head = "lm_head";      // module name of the head in the file
  std::vector<std::string> carried;  // parts of the model that stay as they are: "visual", "mtp"

  std::vector<std::string> names() const;
  std::vector<std::string> untouched() const;
  // Regular expressions that match exactly `chosen` out of `all` names of modules (regexes_of),
  // under the names of any loader.
  std::vector<std::string> regexes(const std::vector<std::string>& chosen,
                                   const std::vector<std::string>& all) const;
  std::vector<std::string> carried_regexes() const;  // match every module of `carried`
  // Modules with the same settings.
  struct Group {
    ModuleSettings settings;
    std::vector<std::string> modules;
  };
  std::vector<Group> groups() const;  // the quantized modules; the largest group first
};

FolderContents contents_of(const ExportPlan& plan, const model::FamilySpec& family);

}  // namespace calque::formats
