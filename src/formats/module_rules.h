#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "formats/messages.h"

namespace calque::formats {

// The quantization settings of one module.
struct ModuleSettings {
  int bits = 4;
  Index group_size = 128;
  bool sym = true;
  std::optional<SmallFloat> number = std::nullopt;  // as in quant::Grid
  Index scale_rows = 1;
  std::optional<ScalePrecision> coded_scales = std::nullopt;  // as in quant::Grid
  std::optional<InputGrid> inputs = std::nullopt;             // nullopt: stay as they are
  bool operator==(const ModuleSettings&) const = default;
};

// By module name ("model.layers.3.mlp.down_proj", "lm_head"); unquantized modules are absent.
using SettingsOfModule = std::map<std::string, ModuleSettings>;

// Applies the request and its rules to every linear of the blocks and to the head, which is named
// "lm_head" even if it is tied, and skipped unless a rule says otherwise. `rounds_embedding`: to
// the embedding, too, and neither it nor a head of its own is skipped unless a rule says so.
// Refusals: E151, E152.
SettingsOfModule resolve_rules(const model::FamilySpec& family, const QuantizationRequest& request,
                               bool rounds_embedding, Refusals& refusals);

// The embedding as rules name it, "model.embed_tokens".
model::LinearSpec embedding_linear(const model::FamilySpec& family);

// The linears of the blocks and the head, if it has a tensor of its own.
std::vector<model::LinearSpec> all_linears(const model::FamilySpec& family);

}  // namespace calque::formats
