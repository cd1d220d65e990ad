#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Qwen3, dense: an RMSNorm over every head of q and k.
FamilySpec qwen3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen3";
  layout.gguf_architecture = "qwen3";
  layout.qk_norm = true;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  return make_decoder(config, layout);
}

}  // namespace calque::model
