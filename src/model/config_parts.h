#pragma once

#include <string>
#include <string_view>

#include "calque/core/matrix.h"
#include "calque/io/json.h"
#include "calque/model/config.h"

// The parts of reading a config.json: config.cpp has the class, sizes, windows and the rest,
// config_rope.cpp the rotary positions, config_experts.cpp experts and their routing.
namespace calque::model {

using JsonObject = io::JsonNode;

// Far above any model; a product of two such sizes still fits an Index.
constexpr Index kLargestSize = (Index{1} << 31) - 1;
constexpr Index kMostLayers = 10'000;

// Qwen3-Next and its successors.
bool has_delta_nets(const ModelConfig& config);
bool is_gemma4(const ModelConfig& config);
// True for the types of rotary positions that can be read, in all their spellings.
bool is_rope_type(const std::string& type);

// Values that transformers' configuration class takes for missing keys.
struct ClassDefaults {
  std::string_view class_name;  // its architecture's name begins so
  double theta = 1e4;
  double rms_norm_eps = 1e-6;
  Index head_dim = 0;            // 0: hidden_size / num_attention_heads
  double turned_share = 1.0;     // partial_rotary_factor
  bool turns_any_share = false;  // the class can leave a part of a head's channels as they are
  bool tied = false;             // tie_word_embeddings
};

const ClassDefaults& defaults_of(std::string_view architecture);

// Both values are given and differ; the first is the one in use.
void remark(ModelConfig& config, std::string_view used, const io::Json& value,
            std::string_view other, const io::Json& ignored);
void remark_if_both(const JsonObject& json, ModelConfig& config, const char* used,
                    const char* other);

// These read their keys of `json` into `config`, whose class and sizes are known; errors as
// parse_config. read_turned_layers needs the windows.
void read_rope(const JsonObject& json, ModelConfig& config);
void read_turned_layers(const JsonObject& json, ModelConfig& config);
void read_experts(const JsonObject& json, ModelConfig& config);

}  // namespace calque::model
