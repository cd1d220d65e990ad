#include "model/decoder.h"

#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "mixers/attention/spec.h"
#include "mixers/delta_net/spec.h"
#include "mixers/layer_embedding/spec.h"
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
    if (layout_.experts_beside_mlp && has_experts()) {
      add_beside(block);
    } else {
      add_half(has_experts() ? experts() : dense(), block);
    }
    if (config_.layer_embedding_size > 0) add_half(layer_embedding(), block);
    if (layout_.layer_scalar)
      block.scalar = tensors_.tensor("layer_scalar", "layer_output_scale.weight", {1});
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
    attention.kv_heads = config_.kv_heads_of(layer_);
    attention.head_dim = config_.head_dim_of(layer_);
    attention.window = config_.window_of_layer[at()];
    if (config_.turned_layers.empty() || config_.turned_layers[at()])
      attention.rope =
          layout_.local_rope && attention.window > 0 ? config_.local_rope : config_.rope;
    attention.query_scale = config_.query_scale;
    attention.softcap = config_.attention_softcap;
    attention.gated = layout_.gated;
    if (layout_.v_norm)
      attention.v_norm = NormSpec{.kind = NormSpec::Kind::kPlain, .epsilon = config_.rms_norm_eps};
    attention.values_are_keys = config_.full_values_are_keys && attention.window == 0;
    share_keys_values(attention);
    DetachedHalf half =
        attention_half(tensors_, attention_layout(), std::move(attention), config_.hidden_size,
                       pre_norm("input_layernorm", "attn_norm"));
    if (layout_.post_norms)
      half.half.post_norm = norm("post_attention_layernorm", "post_attention_norm");
    return half;
  }

  // The last layer of each kind before those that share leaves its keys and values.
  void share_keys_values(Attention& attention) const {
    if (config_.shared_kv_layers == 0) return;
    const std::string kind = attention.window > 0 ? "windowed" : "full";
    if (config_.shares_keys_values(layer_)) {
      attention.takes = kind;
      return;
    }
    for (Index later = layer_ + 1; !config_.shares_keys_values(later); ++later)
      if (config_.has_window(later) == config_.has_window(layer_)) return;
    attention.leaves = kind;
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
  std::optional<NormSpec> mlp_post_norm() const {
    if (!layout_.post_norms) return std::nullopt;
    return norm("post_feedforward_layernorm", "post_ffw_norm");
  }

  DetachedHalf dense() const {
    Mlp mlp;
    mlp.width = config_.intermediate_size_of(layer_);
    mlp.activation = {config_.hidden_act, config_.clamped_gate};
    DetachedHalf half = mlp_half(tensors_, {layout_.mlp_bias, layout_.fused}, std::move(mlp),
                                 config_.hidden_size, mlp_norm());
    half.half.post_norm = mlp_post_norm();
    return half;
  }

  DetachedHalf experts() const { return experts(layout_.experts, mlp_norm(), mlp_post_norm()); }

  // Each with norms of its own on both sides; the usual last norm is that of their sum.
  void add_beside(BlockSpec& block) const {
    DetachedHalf mlp = dense();
    mlp.half.post_norm = norm("post_feedforward_layernorm_1", "post_ffw_norm_1");
    add_half(std::move(mlp), block);
    ExpertNames names = layout_.experts;
    names.site_in = "experts_in";
    DetachedHalf half = experts(names, norm("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
                                norm("post_feedforward_layernorm_2", "post_ffw_norm_2"));
    half.half.beside = true;
    half.half.sum_norm = mlp_post_norm();
    add_half(std::move(half), block);
  }

  DetachedHalf layer_embedding() const {
    LayerEmbedding mixer;
    mixer.width = config_.layer_embedding_size;
    mixer.first = layer_ * mixer.width;
    mixer.activation = config_.hidden_act;
    return layer_embedding_half(tensors_, std::move(mixer), config_.hidden_size,
                                norm("post_per_layer_input_norm", "post_norm"));
  }

  DetachedHalf experts(const ExpertNames& names, const std::optional<NormSpec>& norm,
                       std::optional<NormSpec> post_norm) const {
    Experts experts;
    experts.count = config_.num_experts;
    experts.routing = config_.routing;
    experts.width = config_.expert_intermediate_size;
    experts.shared_width = config_.shared_intermediate_size;
    experts.activation = {config_.hidden_act, config_.clamped_gate};
    if (!names.router_norm.empty())
      experts.router_scale = 1 / std::sqrt(static_cast<double>(config_.hidden_size));
    DetachedHalf half =
        experts_half(tensors_, names, std::move(experts), config_.hidden_size, norm);
    half.half.post_norm = std::move(post_norm);
    return half;
  }

  const ModelConfig& config_;
  const DecoderLayout& layout_;
  Index layer_;
  LayerTensors tensors_;
};

}  // namespace

namespace {

LayerEmbeddings layer_embeddings_of(const ModelConfig& config) {
  const Index width = config.layer_embedding_size, all = config.num_layers * width;
  const std::string& model = config.names.model;
  return {.width = width,
          .table = {model + ".embed_tokens_per_layer.weight",
                    {config.vocab_size, all},
                    "per_layer_token_embd.weight"},
          .projection = {model + ".per_layer_model_projection.weight",
                         {all, config.hidden_size},
                         "per_layer_model_proj.weight"},
          .norm = {.epsilon = config.rms_norm_eps,
                   .weight = {model + ".per_layer_projection_norm.weight",
                              {width},
                              "per_layer_proj_norm.weight"}}};
}

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
  if (config.layer_embedding_size > 0) family.layer_embeddings = layer_embeddings_of(config);
  for (Index layer = 0; layer < config.num_layers; ++layer)
    family.blocks.push_back(LayerBuilder(config, layout, layer).build());
  family.final_norm = {
      names.model + ".norm.weight", {hidden}, gguf("output_norm.weight"), 0, config.norm_plus_one};
  if (!config.tie_word_embeddings)
    family.lm_head = {{names.head + ".weight", {vocabulary, hidden}, gguf("output.weight"), 0}};
  return family;
}

}  // namespace calque::model
