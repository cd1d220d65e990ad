#include "model/layer_builder.h"

#include <fmt/format.h>

namespace calque::model {

BlockSpec LayerBuilder::build() const {
  BlockSpec block;
  block.layer = layer_;
  block.name = fmt::format("model.layers.{}", layer_);
  block.window = config_.window_of_layer[static_cast<std::size_t>(layer_)];
  block.local_rope = layout_.local_rope && block.window > 0;
  add_norms(block);
  add_attention(block);
  if (has_experts())
    add_experts(block);
  else
    add_dense(block);
  return block;
}

bool LayerBuilder::has_experts() const {
  return config_.num_experts > 0 && config_.experts_in_layer[static_cast<std::size_t>(layer_)];
}

std::string LayerBuilder::name(std::string_view module) const {
  return fmt::format("model.layers.{}.{}", layer_, module);
}

std::string LayerBuilder::gguf(std::string_view tensor, std::string_view suffix) const {
  if (layout_.gguf_architecture.empty()) return {};
  return fmt::format("blk.{}.{}.{}", layer_, tensor, suffix);
}

TensorSpec LayerBuilder::norm(std::string_view module, std::string_view gguf_tensor,
                              Index size) const {
  return {name(module) + ".weight", {size}, gguf(gguf_tensor, "weight"), 0, config_.norm_plus_one};
}

LinearSpec LayerBuilder::linear(std::string_view module, std::string_view gguf_tensor,
                                Shape shape) const {
  LinearSpec spec;
  spec.name = name(module);
  spec.role = module.substr(module.rfind('.') + 1);
  spec.weight = {spec.name + ".weight",
                 {shape.out, shape.in},
                 gguf(gguf_tensor, "weight"),
                 shape.permuted_heads,
                 false,
                 shape.expert};
  if (shape.bias)
    spec.bias = {
        {spec.name + ".bias", {shape.out}, gguf(gguf_tensor, "bias"), shape.permuted_heads}};
  return spec;
}

// With norms on both sides of a half, post_attention_layernorm is the attention's own and the MLP
// has names of its own.
void LayerBuilder::add_norms(BlockSpec& block) const {
  const Index hidden = config_.hidden_size;
  block.attn_norm = norm("input_layernorm", "attn_norm", hidden);
  block.mlp_norm =
      norm(layout_.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm",
           "ffn_norm", hidden);
  if (layout_.post_norms) {
    block.attn_post_norm = {norm("post_attention_layernorm", "post_attention_norm", hidden)};
    block.mlp_post_norm = {norm("post_feedforward_layernorm", "post_ffw_norm", hidden)};
  }
  if (layout_.qk_norm) {
    block.q_norm = {norm("self_attn.q_norm", "attn_q_norm", config_.head_dim)};
    block.k_norm = {norm("self_attn.k_norm", "attn_k_norm", config_.head_dim)};
  }
}

void LayerBuilder::add_attention(BlockSpec& block) const {
  block.sites = {attn_in(), attn_out()};
  block.folds = {norm_fold(block.sites[0], block.attn_norm), attn_out_fold(block)};
}

// A fused qkv has the rows of v last.
FoldSpec LayerBuilder::attn_out_fold(const BlockSpec& block) const {
  const Index first = layout_.fused ? query_width() + key_width() : 0;
  FoldSpec fold = rows_fold(block.sites[1], block.sites[0].readers.back(), first);
  fold.head_dim = config_.head_dim;
  fold.shared_by = config_.num_heads / config_.num_kv_heads;
  return fold;
}

void LayerBuilder::add_dense(BlockSpec& block) const {
  const SiteSpec in = mlp_in();
  const SiteSpec out = mlp_out();
  const Index first = layout_.fused ? config_.intermediate_size : 0;  // up's rows are last
  block.folds.push_back(norm_fold(in, block.mlp_norm));
  block.folds.push_back(rows_fold(out, in.readers.back(), first));
  block.sites.insert(block.sites.end(), {in, out});
}

SiteSpec LayerBuilder::attn_in() const {
  const Index hidden = config_.hidden_size;
  const bool bias = layout_.qkv_bias;
  const Index q_heads = layout_.gguf_permuted ? config_.num_heads : 0;
  const Index k_heads = layout_.gguf_permuted ? config_.num_kv_heads : 0;
  SiteSpec site{SiteKind::kAttnIn, -1, hidden, {}};
  if (layout_.fused)
    site.readers = {
        linear("self_attn.qkv_proj", "attn_qkv", {query_width() + 2 * key_width(), hidden, bias})};
  else
    site.readers = {linear("self_attn.q_proj", "attn_q", {query_width(), hidden, bias, q_heads}),
                    linear("self_attn.k_proj", "attn_k", {key_width(), hidden, bias, k_heads}),
                    linear("self_attn.v_proj", "attn_v", {key_width(), hidden, bias})};
  return site;
}

SiteSpec LayerBuilder::attn_out() const {
  return {SiteKind::kAttnOut,
          -1,
          query_width(),
          {linear("self_attn.o_proj", "attn_output",
                  {config_.hidden_size, query_width(), layout_.o_bias})}};
}

SiteSpec LayerBuilder::mlp_in() const {
  const Index width = config_.intermediate_size;
  const Index hidden = config_.hidden_size;
  const bool bias = layout_.mlp_bias;
  SiteSpec site{SiteKind::kMlpIn, -1, hidden, {}};
  if (layout_.fused)
    site.readers = {linear("mlp.gate_up_proj", "ffn_up", {2 * width, hidden, bias})};
  else
    site.readers = {linear("mlp.gate_proj", "ffn_gate", {width, hidden, bias}),
                    linear("mlp.up_proj", "ffn_up", {width, hidden, bias})};
  return site;
}

SiteSpec LayerBuilder::mlp_out() const {
  const Shape shape{config_.hidden_size, config_.intermediate_size, layout_.mlp_bias};
  return {SiteKind::kMlpOut,
          -1,
          config_.intermediate_size,
          {linear("mlp.down_proj", "ffn_down", shape)}};
}

FoldSpec LayerBuilder::norm_fold(const SiteSpec& site, const TensorSpec& norm) const {
  FoldSpec fold;
  fold.site = site.kind;
  fold.kind = config_.norm_plus_one ? FoldSpec::Absorber::kNormPlusOne : FoldSpec::Absorber::kNorm;
  fold.absorber = norm;
  for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
  return fold;
}

FoldSpec LayerBuilder::rows_fold(const SiteSpec& site, const LinearSpec& maker,
                                 Index first_row) const {
  FoldSpec fold;
  fold.site = site.kind;
  fold.expert = site.expert;
  fold.kind = FoldSpec::Absorber::kRows;
  fold.absorber = maker.weight;
  fold.bias = maker.bias;
  fold.first_row = first_row;
  for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
  return fold;
}

}  // namespace calque::model
