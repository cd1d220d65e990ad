#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Qwen1.5-MoE and Qwen2-MoE: many small experts, and a shared one that every token goes through.
FamilySpec qwen2_moe_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen2_moe";
  layout.gguf_architecture = "qwen2moe";
  layout.qkv_bias = config.attention_bias;
  layout.experts.shared_gate = "shared_expert_gate";
  return make_decoder(config, layout);
}

}  // namespace calque::model
