#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/decoder_layout.h"

namespace calque::model {

// Lays out one layer: the names of its tensors, its sites and folds.
class LayerBuilder {
 public:
  LayerBuilder(const ModelConfig& config, const DecoderLayout& layout, Index layer)
      : config_(config), layout_(layout), layer_(layer) {}

  BlockSpec build() const;

 private:
  struct Shape {
    Index out = 0;
    Index in = 0;
    bool bias = false;
    Index permuted_heads = 0;
    Index expert = -1;
  };

  std::string name(std::string_view module) const;
  std::string gguf(std::string_view tensor, std::string_view suffix) const;
  TensorSpec norm(std::string_view module, std::string_view gguf_tensor, Index size) const;
  LinearSpec linear(std::string_view module, std::string_view gguf_tensor, Shape shape) const;

  Index query_width() const { return config_.num_heads * config_.head_dim; }
  Index key_width() const { return config_.num_kv_heads * config_.head_dim; }
  bool has_experts() const;

  SiteSpec attn_in() const;
  SiteSpec attn_out() const;
  SiteSpec mlp_in() const;
  SiteSpec mlp_out() const;
  SiteSpec mlp_site(SiteKind kind, const std::string& folder, Index width, Index expert = -1) const;

  void add_norms(BlockSpec& block) const;
  void add_attention(BlockSpec& block) const;
  void add_dense(BlockSpec& block) const;
  void add_experts(BlockSpec& block) const;
  FoldSpec norm_fold(const SiteSpec& site, const TensorSpec& norm) const;
  FoldSpec rows_fold(const SiteSpec& site, const LinearSpec& maker, Index first_row) const;
  FoldSpec attn_out_fold(const BlockSpec& block) const;

  const ModelConfig& config_;
  const DecoderLayout& layout_;
  Index layer_;
};

}  // namespace calque::model
