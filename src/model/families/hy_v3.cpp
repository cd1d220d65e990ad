#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Hy3: experts as in GLM 4.5, under other names.
FamilySpec hy_v3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "hy_v3";
  layout.gguf_architecture = "hy_v3";
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.mlp_bias = config.mlp_bias;
  layout.qk_norm = true;
  layout.experts.router = "router.gate";
  layout.experts.choice_bias = "expert_bias";
  layout.experts.choice_bias_gguf = "exp_probs_b";
  layout.experts.shared = "shared_mlp";
  return make_decoder(config, layout);
}

}  // namespace calque::model
