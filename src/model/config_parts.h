#pragma once

#include "calque/io/json.h"
#include "calque/model/config.h"

// The parts of config.json by subject; each reads its keys into `config`, whose architecture and
// sizes are known.
namespace calque::model {

using JsonObject = io::JsonNode;

// Far above any model, and low enough that a product of two of them fits an Index.
constexpr Index kLargestSize = (Index{1} << 31) - 1;
constexpr Index kMostLayers = 10'000;
constexpr Index kLargestHead = 65'536;

bool is_gemma(const ModelConfig& config);

void read_rope(const JsonObject& json, ModelConfig& config);
std::vector<Index> read_windows(const JsonObject& json, const ModelConfig& config);
void read_gemma(const JsonObject& json, ModelConfig& config);
void read_experts(const JsonObject& json, ModelConfig& config);

}  // namespace calque::model
