#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {
namespace {

// Delta nets in most layers, attention behind a gate in the others; norms of 1 + weight.
DecoderLayout with_delta_nets(const ModelConfig& config) {
  DecoderLayout layout;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  layout.qk_norm = true;
  layout.gated = true;
  layout.gguf_mlp_norm = "post_attention_norm";
  return layout;
}

}  // namespace

// Qwen3-Next, Qwen3-Coder-Next: experts in every layer, one of them shared.
FamilySpec qwen3_next_family(const ModelConfig& config) {
  DecoderLayout layout = with_delta_nets(config);
  layout.family = "qwen3_next";
  layout.gguf_architecture = "qwen3next";
  layout.delta_by_key_head = true;
  layout.experts.shared_gate = "shared_expert_gate";
  return make_decoder(config, layout);
}

// The text models of Qwen 3.5, 3.6 and 3.8.
FamilySpec qwen3_5_family(const ModelConfig& config) {
  DecoderLayout layout = with_delta_nets(config);
  layout.family = "qwen3_5";
  layout.gguf_architecture = "qwen35";
  return make_decoder(config, layout);
}

// The same with experts, one of them shared, in every layer.
FamilySpec qwen3_5_moe_family(const ModelConfig& config) {
  DecoderLayout layout = with_delta_nets(config);
  layout.family = "qwen3_5_moe";
  layout.gguf_architecture = "qwen35moe";
  layout.experts.shared_gate = "shared_expert_gate";
  return make_decoder(config, layout);
}

}  // namespace calque::model
