#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// SmolLM 3: Llama with some layers that have no positions.
FamilySpec smollm3_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "smollm3";
  layout.gguf_architecture = "smollm3";
  layout.gguf_permuted = true;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.mlp_bias = config.mlp_bias;
  return make_decoder(config, layout);
}

}  // namespace calque::model
