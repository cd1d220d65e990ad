#pragma once

#include <optional>
#include <string>

#include "calque/model/block.h"
#include "model/layer_tensors.h"

namespace calque::model {

// A layer's own embedding e of each token (LayerEmbeddings, `width` channels from `first` on) makes
// act(gate x) * e, then a projection. Sites: layer_in (gate), layer_out (projection).
struct LayerEmbedding : Mixer {
  static constexpr std::string_view kKind = "layer_embedding";
  enum Site : std::size_t { kIn, kOut };

  Index width = 0;
  Index first = 0;
  std::string activation = "gelu_pytorch_tanh";  // or "silu"

  std::string_view kind() const override { return kKind; }
  Cost cost(double sequences, double length) const override;
  // The embeddings of the whole sequence, as linears' inputs.
  std::uint64_t sequence_bytes(Index length, Index compute_bytes, bool staged) const override;
  Index chunk_channels(bool staged) const override { return (staged ? 1 : 2) * width; }
};

// `norm` is the half's post_norm.
DetachedHalf layer_embedding_half(const LayerTensors& tensors, LayerEmbedding mixer, Index hidden,
                                  const NormSpec& norm);

}  // namespace calque::model
