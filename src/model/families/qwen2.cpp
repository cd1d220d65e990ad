#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// Qwen2 and Qwen2.5. The class always has biases on q, k and v and no key in config.json for it.
FamilySpec qwen2_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen2";
  layout.gguf_architecture = "qwen2";
  layout.qkv_bias = true;
  return make_decoder(config, layout);
}

// The language model of Qwen2-VL and Qwen2.5-VL. In text its three kinds of positions are one.
FamilySpec qwen2_vl_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen2_vl";
  layout.gguf_architecture = "qwen2vl";
  layout.qkv_bias = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
