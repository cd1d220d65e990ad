#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calque/model/block.h"
#include "calque/model/config.h"

namespace calque::model {

// Builds the specs of one layer's tensors, with Hugging Face and GGUF names, and the folds between
// them.
class LayerTensors {
 public:
  // `in_gguf` false: the family has no GGUF names.
  LayerTensors(const TextNames& names, Index layer, bool in_gguf);

  const std::string& prefix() const { return prefix_; }  // "model.layers.3"

  struct Shape {
    Index out = 0;
    Index in = 0;
    bool bias = false;
    Index permuted_heads = 0;
    Index expert = -1;  // with `experts`: the slab, and how many there are
    Index experts = 1;
  };
  // "self_attn.q_proj", "attn_q": model.layers.N.self_attn.q_proj.weight, blk.N.attn_q.weight.
  LinearSpec linear(std::string_view module, std::string_view gguf_tensor, Shape shape) const;
  // "linear_attn.dt_bias", "ssm_dt.bias": the same without an ending of their own.
  TensorSpec tensor(std::string_view name, std::string_view gguf_tensor,
                    std::vector<Index> shape) const;
  // The weight's shape is [channels]; kind and epsilon are those of `like`.
  NormSpec norm(std::string_view module, std::string_view gguf_tensor, Index channels,
                const NormSpec& like) const;
  // "ssm_a": blk.N.ssm_a.
  std::string gguf(std::string_view tensor) const;

 private:
  std::string prefix_;
  Index layer_;
  bool in_gguf_;
};

// The fold of a norm that makes the inputs of `site`: the site's readers are the consumers. Empty
// for a norm without weight, which cannot absorb scales.
std::vector<FoldSpec> norm_fold(const SiteSpec& site, const std::optional<NormSpec>& norm);
// The fold of rows of `maker`, from `first_row` on, that make the inputs of `site`.
FoldSpec rows_fold(const SiteSpec& site, const LinearSpec& maker, Index first_row);

}  // namespace calque::model
