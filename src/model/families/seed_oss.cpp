#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Seed-OSS: Llama with biases of q, k and v, and a key of its own for o's. GGUF's architecture
// calls the norm of the MLP by another name than Llama's.
FamilySpec seed_oss_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "seed_oss";
  layout.gguf_architecture = "seed_oss";
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_out_bias;
  layout.mlp_bias = config.mlp_bias;
  layout.gguf_mlp_norm = "post_attention_norm";
  return make_decoder(config, layout);
}

}  // namespace calque::model
