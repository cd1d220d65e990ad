#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Qwen3 with experts, none of them shared.
FamilySpec qwen3_moe_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen3_moe";
  layout.gguf_architecture = "qwen3moe";
  layout.qk_norm = true;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  return make_decoder(config, layout);
}

}  // namespace calque::model
