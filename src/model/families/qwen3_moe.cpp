#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

namespace {

DecoderLayout qwen3_moe_layout(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "qwen3_moe";
  layout.gguf_architecture = "qwen3moe";
  layout.qk_norm = true;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  return layout;
}

}  // namespace

// Qwen3 with experts, none of them shared.
FamilySpec qwen3_moe_family(const ModelConfig& config) {
  return make_decoder(config, qwen3_moe_layout(config));
}

// The language model of Qwen3-VL with experts. In text its three kinds of positions are one.
FamilySpec qwen3_vl_moe_family(const ModelConfig& config) {
  DecoderLayout layout = qwen3_moe_layout(config);
  layout.family = "qwen3_vl_moe";
  layout.gguf_architecture = "qwen3vlmoe";
  return make_decoder(config, layout);
}

}  // namespace calque::model
