#include <cmath>

#include "model/config_parts.h"

namespace calque::model {
namespace {

// A cap that is absent has the class's default; null means none.
double cap_of(const JsonObject& json, const char* key, double absent) {
  return json.is_null(key) ? 0.0 : json.positive_or(key, absent);
}

}  // namespace

// The embedding's scale is the exact root. transformers rounds it to the dtype of the embedding
// (45.25 for a hidden size of 2048 in bf16, where the root is 45.2548); the RMSNorm that each half
// starts with takes a common factor out again, up to what it is added to.
void read_gemma(const JsonObject& json, ModelConfig& config) {
  config.norm_plus_one = true;
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  if (config.architecture == "GemmaForCausalLM") return;
  config.query_scale = 1.0 / std::sqrt(json.positive_or("query_pre_attn_scalar", 256.0));
  const bool second = config.architecture == "Gemma2ForCausalLM";
  config.attention_softcap = cap_of(json, "attn_logit_softcapping", second ? 50.0 : 0.0);
  config.logit_softcap = cap_of(json, "final_logit_softcapping", second ? 30.0 : 0.0);
}

}  // namespace calque::model
