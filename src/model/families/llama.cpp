#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Llama 1 to 3, SmolLM2, TinyLlama and many others that kept the class.
FamilySpec llama_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "llama";
  layout.gguf_architecture = "llama";
  layout.gguf_permuted = true;
  // attention_bias covers all four projections in this class.
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.mlp_bias = config.mlp_bias;
  return make_decoder(config, layout);
}

}  // namespace calque::model
