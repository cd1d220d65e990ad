#pragma once

#include <string>

#include "calque/io/json.h"
#include "calque/model/config.h"
#include "formats/messages.h"
#include "formats/module_rules.h"

namespace calque::formats {

// Refuses what mlx-lm would not load (E148): classes it does not have, or whose tensors it expects
// otherwise; rounded experts where it stacks only their weights as they were published; experts of
// a layer whose settings differ, since it stacks them.
void check_mlx_models(const model::ModelConfig& config, const SettingsOfModule& modules,
                      Refusals& refusals);

// Adds the keys that mlx-lm reads where transformers 5 writes `rope_parameters`: rope_theta,
// rope_scaling, partial_rotary_factor, rope_local_base_freq; and head_dim and tie_word_embeddings,
// which some classes need. Keys that are there stay.
void add_mlx_keys(const model::ModelConfig& model, io::Json& config);

// The path of a module in mlx-lm's model, which config.json's settings of single modules have:
// "model.layers.0.mlp.switch_mlp.up_proj" of ".experts.3.up_proj"; in a wrapper
// "language_model.model.layers.0.mlp.up_proj". `wrapped`: the module is a wrapper's.
std::string mlx_path(std::string module, bool wrapped);

}  // namespace calque::formats
