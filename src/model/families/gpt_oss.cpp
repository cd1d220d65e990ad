#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {

// gpt-oss 20B and 120B: heads with sinks, a window in every other layer, biases in every linear,
// experts with a clamped gate, which are published in MXFP4.
FamilySpec gpt_oss_family(const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = "gpt_oss";
  layout.gguf_architecture = "gpt-oss";
  layout.gguf_mlp_norm = "post_attention_norm";
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.sinks = true;
  layout.experts.router = "router";
  layout.experts.router_bias = true;
  layout.experts.bias = true;
  return make_decoder(config, layout);
}

}  // namespace calque::model
