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
  // Groups are in activation order, so they need not be consecutive. Follows from the plan alone,
  // so that the settings have the same size before and after rounding.
  bool desc_act = false;

  std::vector<std::string> names() const;
  std::vector<std::string> untouched() const;
  // Modules with the same settings.
  struct Group {
    ModuleSettings settings;
    std::vector<std::string> modules;
  };
  std::vector<Group> groups() const;  // the quantized modules; the largest group first
};

FolderContents contents_of(const ExportPlan& plan, const model::FamilySpec& family);

}  // namespace calque::formats
