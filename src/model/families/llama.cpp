#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {
namespace {

FamilySpec like_llama(const ModelConfig& config, const char* family) {
  DecoderLayout layout;
  layout.family = family;
  layout.gguf_architecture = family;
  layout.gguf_permuted = true;
  // attention_bias covers all four projections in these classes.
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.mlp_bias = config.mlp_bias;
  return make_decoder(config, layout);
}

}  // namespace

// Llama 1 to 3, SmolLM2, TinyLlama and many others that kept the class.
FamilySpec llama_family(const ModelConfig& config) { return like_llama(config, "llama"); }

// SmolLM 3: some layers have no positions.
FamilySpec smollm3_family(const ModelConfig& config) { return like_llama(config, "smollm3"); }

}  // namespace calque::model
