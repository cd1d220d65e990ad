#pragma once

#include <span>
#include <string>
#include <string_view>

#include "calque/model/block.h"

namespace calque::model {

// Makes the names of one layer's tensors, here and in GGUF, and folds between them.
class LayerTensors {
 public:
  // `in_gguf` false: the family has no names there.
  LayerTensors(Index layer, bool in_gguf);

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
  // The weight's shape is [channels]; kind and epsilon are those of `like`.
  NormSpec norm(std::string_view module, std::string_view gguf_tensor, Index channels,
                const NormSpec& like) const;

 private:
  std::string gguf(std::string_view tensor, std::string_view suffix) const;

  Index layer_;
  bool in_gguf_;
};

// The norm makes the inputs of `site`: its readers are the consumers. A norm without weight takes
// no scales, so there is no fold then.
std::vector<FoldSpec> norm_fold(const SiteSpec& site, const std::optional<NormSpec>& norm);
// Rows of `maker` from `first_row` on make the inputs of `site`.
FoldSpec rows_fold(const SiteSpec& site, const LinearSpec& maker, Index first_row);

}  // namespace calque::model
