#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/model/family.h"
#include "formats/module_rules.h"

namespace calque::formats {

// What the settings file of a folder has to describe: every Linear of the model and how it is
// stored.
struct FolderContents {
  struct Module {
    std::string name;
    std::optional<ModuleSettings> settings;  // nullopt: left as it is
  };
  std::vector<Module> modules;  // with routers and the gates of shared experts; last: lm_head
  ModuleSettings usual;         // of most modules
  bool lm_head = false;         // is quantized
  bool all_sym = true;
  std::string checkpoint_format = "auto";  // as ExportRequest has it
  bool desc_act = false;                   // some module has groups that are not consecutive

  std::vector<std::string> names() const;
  std::vector<std::string> untouched() const;
  // Modules that are quantized alike.
  struct Group {
    ModuleSettings settings;
    std::vector<std::string> modules;
  };
  std::vector<Group> groups() const;  // of all quantized modules; the usual one first
};

FolderContents contents_of(const ExportPlan& plan, const model::FamilySpec& family);

}  // namespace calque::formats
