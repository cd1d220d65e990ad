#include "model/decoder.h"

#include <optional>
#include <utility>

#include "mixers/attention/spec.h"
#include "mixers/delta_net/spec.h"
#include "mixers/mlp/spec.h"
#include "model/layer_tensors.h"

namespace calque::model {
namespace {

// Builds one layer: a half of attention or a delta net, then a half of experts or a dense MLP.
class LayerBuilder {
 public:
  LayerBuilder(const ModelConfig& config, const DecoderLayout& layout, Index layer)
      : config_(config),
        layout_(layout),
        layer_(layer),
        tensors_(config.names, layer, !layout.gguf_architecture.empty()) {}

  BlockSpec build() const {
    BlockSpec block;
    block.layer = layer_;
    block.name = tensors_.prefix();
    add_half(has_delta_net() ? delta_net() : attention(), block);
    add_half(has_experts() ? experts() : dense(), block);
    return block;
  }

 private:
  std::size_t at() const { return static_cast<std::size_t>(layer_); }
  bool has_delta_net() const {
    return !config_.delta_net_layers.empty() && config_.delta_net_layers[at()];
  }
  bool has_experts() const { return config_.num_experts > 0 && config_.experts_in_layer[at()]; }

  NormSpec norm(std::string_view module, std::string_view gguf_tensor) const {
    return tensors_.norm(module, gguf_tensor, config_.hidden_size, norm_of(config_));
  }

  std::optional<NormSpec> pre_norm(std::string_view module, std::string_view gguf_tensor) const {
    if (!layout_.pre_norms) return std::nullopt;
    return norm(module, gguf_tensor);
  }

  AttentionLayout attention_layout() const {
    AttentionLayout layout;
    layout.qkv_bias = layout_.qkv_bias;
    layout.o_bias = layout_.o_bias;
    if (layout_.qk_norm) layout.qk_norm = norm_of(config_);
    layout.qk_norm_whole = layout_.qk_norm_whole;
    layout.fused = layout_.fused;
    layout.sinks = layout_.sinks;
    layout.gguf_permuted = layout_.gguf_permuted;
    return layout;
  }

  DetachedHalf attention() const {
    Attention attention;
    attention.heads = config_.num_heads;
    attention.kv_heads = config_.num_kv_heads;
    attention.head_dim = config_.head_dim;
    attention.window = config_.window_of_layer[at()];
    if (config_.turned_layers.empty() || config_.turned_layers[at()])
      attention.rope =
          layout_.local_rope && attention.window > 0 ? config_.local_rope : config_.rope;
    attention.query_scale = config_.query_scale;
    attention.softcap = config_.attention_softcap;
    attention.gated = layout_.gated;
    DetachedHalf half =
        attention_half(tensors_, attention_layout(), std::move(attention), config_.hidden_size,
                       pre_norm("input_layernorm", "attn_norm"));
    if (layout_.post_norms)
      half.half.post_norm = norm("post_attention_layernorm", "post_attention_norm");
    return half;
  }

  DetachedHalf delta_net() const {
    DeltaNet net;
    net.sizes = config_.delta_net;
    net.by_key_head = layout_.delta_by_key_head;
    return delta_net_half(tensors_, std::move(net), config_.hidden_size,
                          norm("input_layernorm", "attn_norm"));
  }

  // With norms on both sides of a half, post_attention_layernorm belongs to the attention, and the
  // MLP uses names of its own.
  std::optional<NormSpec> mlp_norm() const {
    return pre_norm(layout_.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm",
                    layout_.gguf_mlp_norm);
  }
  DetachedHalf with_post_norm(DetachedHalf half) const {
    if (layout_.post_norms)
      half.half.post_norm = norm("post_feedforward_layernorm", "post_ffw_norm");
    return half;
  }

  DetachedHalf dense() const {
    Mlp mlp;
    mlp.width = config_.intermediate_size;
    mlp.activation = {config_.hidden_act, config_.clamped_gate};
    return with_post_norm(mlp_half(tensors_, {layout_.mlp_bias, layout_.fused}, std::move(mlp),
                                   config_.hidden_size, mlp_norm()));
  }

  DetachedHalf experts() const {
    Experts experts;
    experts.count = config_.num_experts;
    experts.routing = config_.routing;
    experts.width = config_.expert_intermediate_size;
    experts.shared_width = config_.shared_intermediate_size;
    experts.activation = {config_.hidden_act, config_.clamped_gate};
    return with_post_norm(experts_half(tensors_, layout_.experts, std::move(experts),
                                       config_.hidden_size, mlp_norm()));
  }

  const ModelConfig& config_;
  const DecoderLayout& layout_;
  Index layer_;
  LayerTensors tensors_;
};

}  // namespace

FamilySpec make_decoder(const ModelConfig& config, const DecoderLayout& layout) {
  const Index vocabulary = config.vocab_size;
  const Index hidden = config.hidden_size;
  FamilySpec family;
  family.name = layout.family;
  family.gguf_architecture = layout.gguf_architecture;
  family.config = config;
  const auto gguf = [&](const char* tensor) {
    return layout.gguf_architecture.empty() ? std::string() : std::string(tensor);
  };
  const TextNames& names = config.names;
  family.embedding = {
      names.model + ".embed_tokens.weight", {vocabulary, hidden}, gguf("token_embd.weight"), 0};
  for (Index layer = 0; layer < config.num_layers; ++layer)
    family.blocks.push_back(LayerBuilder(config, layout, layer).build());
  family.final_norm = {
      names.model + ".norm.weight", {hidden}, gguf("output_norm.weight"), 0, config.norm_plus_one};
  if (!config.tie_word_embeddings)
    family.lm_head = {{names.head + ".weight", {vocabulary, hidden}, gguf("output.weight"), 0}};
  return family;
}

}  // namespace calque::model
