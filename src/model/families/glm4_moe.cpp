#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// GLM 4.5 to 4.7: half of every head turned, experts chosen by sigmoids and a bias, a shared
// expert, and some dense layers in front. The largest ones have norms of q and k.
FamilySpec glm4_moe_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "glm4_moe";
  layout.gguf_architecture = "glm4moe";
  layout.qkv_bias = config.attention_bias;
  layout.qk_norm = config.qk_norm;
  layout.experts.choice_bias = "gate.e_score_correction_bias";
  layout.experts.shared = "shared_experts";
  layout.gguf_mlp_norm = "post_attention_norm";
  return make_decoder(config, layout);
}

}  // namespace calque::model
