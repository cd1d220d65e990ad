#pragma once

#include <map>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "formats/messages.h"

namespace calque::formats {

// How one module is quantized.
struct ModuleSettings {
  int bits = 4;
  Index group_size = 128;
  bool sym = true;
  bool operator==(const ModuleSettings&) const = default;
};

// By module name ("model.layers.3.mlp.down_proj", "lm_head"); modules that are left as they are do
// not appear.
using SettingsOfModule = std::map<std::string, ModuleSettings>;

// What the request and its rules say about every linear of the blocks and the head, which is
// "lm_head" even where it is tied. Refusals: E151, E152.
SettingsOfModule resolve_rules(const model::FamilySpec& family, const QuantizationRequest& request,
                               Refusals& refusals);

// The linears of the blocks and the head, if it has a tensor of its own.
std::vector<model::LinearSpec> all_linears(const model::FamilySpec& family);

}  // namespace calque::formats
