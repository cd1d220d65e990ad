#include "model/decoder.h"
#include "model/families/families.h"

namespace calque::model {
namespace {

DecoderLayout gemma_layout(const char* family, const ModelConfig& config) {
  DecoderLayout layout;
  layout.family = family;
  layout.gguf_architecture = family;
  layout.qkv_bias = config.attention_bias;
  layout.o_bias = config.attention_bias;
  return layout;
}

}  // namespace

// Gemma 1: Llama with 1 + weight norms, gelu and a scaled embedding (all from the config).
FamilySpec gemma_family(const ModelConfig& config) {
  return make_decoder(config, gemma_layout("gemma", config));
}

// Gemma 2 adds norms after each half, soft caps, and a window in every other layer.
FamilySpec gemma2_family(const ModelConfig& config) {
  DecoderLayout layout = gemma_layout("gemma2", config);
  layout.post_norms = true;
  return make_decoder(config, layout);
}

// Gemma 3 has norms of q and k instead of the caps, and other frequencies in layers with a window.
FamilySpec gemma3_family(const ModelConfig& config) {
  DecoderLayout layout = gemma_layout("gemma3", config);
  layout.post_norms = true;
  layout.qk_norm = true;
  layout.local_rope = true;
  return make_decoder(config, layout);
}

// Gemma 4: norms of w, values with a norm (and in some models the keys themselves), larger heads in
// the layers without a window, a factor after each layer, a dense MLP beside the experts.
FamilySpec gemma4_family(const ModelConfig& config) {
  DecoderLayout layout = gemma_layout("gemma4", config);
  layout.post_norms = true;
  layout.qk_norm = true;
  layout.v_norm = true;
  layout.local_rope = true;
  layout.layer_scalar = true;
  layout.experts_beside_mlp = true;
  layout.experts.folder = "";
  layout.experts.router = "router.proj";
  layout.experts.router_norm = "router.scale";
  layout.experts.answer_scale = "router.per_expert_scale";
  return make_decoder(config, layout);
}

}  // namespace calque::model
