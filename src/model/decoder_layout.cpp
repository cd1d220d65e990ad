#include "model/decoder_layout.h"

#include <fmt/format.h>

#include <utility>

namespace calque::model {
namespace {

// Names of one layer's tensors in both worlds.
class LayerBuilder {
 public:
  LayerBuilder(const ModelConfig& config, const DecoderLayout& layout, Index layer)
      : config_(config), layout_(layout), layer_(layer) {}

  BlockSpec build() const {
    BlockSpec block;
    block.layer = layer_;
    block.name = fmt::format("model.layers.{}", layer_);
    block.sites = {attn_in(), attn_out(), mlp_in(), mlp_out()};
    block.folds = {
        norm_fold(block.site(SiteKind::kAttnIn), "input_layernorm"),
        rows_fold(block.site(SiteKind::kAttnOut), block.site(SiteKind::kAttnIn).readers[2]),
        norm_fold(block.site(SiteKind::kMlpIn), "post_attention_layernorm"),
        rows_fold(block.site(SiteKind::kMlpOut), block.site(SiteKind::kMlpIn).readers[1])};
    block.attn_norm = norm("input_layernorm", "attn_norm", config_.hidden_size);
    block.mlp_norm = norm("post_attention_layernorm", "ffn_norm", config_.hidden_size);
    if (layout_.qk_norm) {
      block.q_norm = {norm("self_attn.q_norm", "attn_q_norm", config_.head_dim)};
      block.k_norm = {norm("self_attn.k_norm", "attn_k_norm", config_.head_dim)};
    }
    block.window = config_.window_of_layer[static_cast<std::size_t>(layer_)];
    return block;
  }

 private:
  struct Shape {
    Index out = 0;
    Index in = 0;
    bool bias = false;
    Index permuted_heads = 0;
  };

  std::string name(std::string_view module) const {
    return fmt::format("model.layers.{}.{}", layer_, module);
  }
  std::string gguf(std::string_view tensor, std::string_view suffix) const {
    return fmt::format("blk.{}.{}.{}", layer_, tensor, suffix);
  }

  TensorSpec norm(std::string_view module, std::string_view gguf_tensor, Index size) const {
    return {name(module) + ".weight", {size}, gguf(gguf_tensor, "weight"), 0};
  }

  LinearSpec linear(std::string_view module, std::string_view gguf_tensor, Shape shape) const {
    LinearSpec spec;
    spec.name = name(module);
    spec.role = module.substr(module.rfind('.') + 1);
    spec.weight = {spec.name + ".weight",
                   {shape.out, shape.in},
                   gguf(gguf_tensor, "weight"),
                   shape.permuted_heads};
    if (shape.bias)
      spec.bias = {
          {spec.name + ".bias", {shape.out}, gguf(gguf_tensor, "bias"), shape.permuted_heads}};
    return spec;
  }

  Index query_width() const { return config_.num_heads * config_.head_dim; }
  Index key_width() const { return config_.num_kv_heads * config_.head_dim; }

  SiteSpec attn_in() const {
    const Index hidden = config_.hidden_size;
    const bool bias = layout_.qkv_bias;
    const Index q_heads = layout_.gguf_permuted ? config_.num_heads : 0;
    const Index k_heads = layout_.gguf_permuted ? config_.num_kv_heads : 0;
    return {SiteKind::kAttnIn,
            -1,
            hidden,
            {linear("self_attn.q_proj", "attn_q", {query_width(), hidden, bias, q_heads}),
             linear("self_attn.k_proj", "attn_k", {key_width(), hidden, bias, k_heads}),
             linear("self_attn.v_proj", "attn_v", {key_width(), hidden, bias})}};
  }
  SiteSpec attn_out() const {
    return {SiteKind::kAttnOut,
            -1,
            query_width(),
            {linear("self_attn.o_proj", "attn_output",
                    {config_.hidden_size, query_width(), layout_.o_bias})}};
  }
  SiteSpec mlp_in() const {
    const Shape shape{config_.intermediate_size, config_.hidden_size, layout_.mlp_bias};
    return {SiteKind::kMlpIn,
            -1,
            config_.hidden_size,
            {linear("mlp.gate_proj", "ffn_gate", shape), linear("mlp.up_proj", "ffn_up", shape)}};
  }
  SiteSpec mlp_out() const {
    const Shape shape{config_.hidden_size, config_.intermediate_size, layout_.mlp_bias};
    return {SiteKind::kMlpOut,
            -1,
            config_.intermediate_size,
            {linear("mlp.down_proj", "ffn_down", shape)}};
  }

  FoldSpec norm_fold(const SiteSpec& site, std::string_view module) const {
    FoldSpec fold;
    fold.site = site.kind;
    fold.absorber = norm(module, "", config_.hidden_size);
    for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
    return fold;
  }
  FoldSpec rows_fold(const SiteSpec& site, const LinearSpec& maker) const {
    FoldSpec fold;
    fold.site = site.kind;
    fold.kind = FoldSpec::Absorber::kRows;
    fold.absorber = maker.weight;
    fold.bias = maker.bias;
    for (const LinearSpec& reader : site.readers) fold.consumers.push_back(reader.weight);
    if (site.kind == SiteKind::kAttnOut) {
      fold.head_dim = config_.head_dim;
      fold.shared_by = config_.num_heads / config_.num_kv_heads;
    }
    return fold;
  }

  const ModelConfig& config_;
  const DecoderLayout& layout_;
  Index layer_;
};

}  // namespace

FamilySpec make_decoder(const ModelConfig& config, const DecoderLayout& layout) {
  const Index vocabulary = config.vocab_size;
  const Index hidden = config.hidden_size;
  FamilySpec family;
  family.name = layout.family;
  family.gguf_architecture = layout.gguf_architecture;
  family.config = config;
  family.embedding = {"model.embed_tokens.weight", {vocabulary, hidden}, "token_embd.weight", 0};
  for (Index layer = 0; layer < config.num_layers; ++layer)
    family.blocks.push_back(LayerBuilder(config, layout, layer).build());
  family.final_norm = {"model.norm.weight", {hidden}, "output_norm.weight", 0};
  if (!config.tie_word_embeddings)
    family.lm_head = {{"lm_head.weight", {vocabulary, hidden}, "output.weight", 0}};
  return family;
}

}  // namespace calque::model
