#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

namespace {

DecoderLayout qwen3_layout(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen3";
  layout.gguf_architecture = "qwen3";
  layout.qk_norm = true;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  return layout;
}

}  // namespace

// Qwen3, dense: an RMSNorm over every head of q and k.
FamilySpec qwen3_family(const ModelConfig& config) {
  return make_decoder(config, qwen3_layout(config));
}

// The language model of Qwen3-VL. In text its three kinds of positions are one.
FamilySpec qwen3_vl_family(const ModelConfig& config) {
  DecoderLayout layout = qwen3_layout(config);
  layout.family = "qwen3_vl";
  layout.gguf_architecture = "qwen3vl";
  return make_decoder(config, layout);
}

}  // namespace calque::model
