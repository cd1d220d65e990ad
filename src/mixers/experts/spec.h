#pragma once

#include <optional>
#include <string>

#include "calque/model/block.h"
#include "model/layer_tensors.h"

namespace calque::model {

// Experts, each an MLP: a router sends every token to `used` of `count`, and their weighted answers
// are summed, with that of a shared one if there is one. Sites: mlp_in (all tokens; the shared
// expert's gate and up, or no readers), expert_in of every expert (gate and up), expert_out of
// every expert (down), mlp_out if there is a shared expert (its down).
struct Experts : Mixer {
  static constexpr std::string_view kKind = "experts";

  Index count = 0;
  Index used = 0;
  bool normalize = false;                 // the probabilities of the chosen are scaled to sum 1
  Index width = 0;                        // one expert's
  Index shared_width = 0;                 // 0: no shared expert
  std::string activation = "silu";        // or "gelu_pytorch_tanh"
  TensorSpec router;                      // [count, hidden]; never quantized
  std::optional<TensorSpec> shared_gate;  // [1, hidden]: sigmoid weight of the shared expert

  // In the half's sites.
  static constexpr std::size_t kIn = 0;
  std::size_t expert_in(Index e) const { return 1 + static_cast<std::size_t>(e); }
  std::size_t expert_out(Index e) const { return expert_in(count + e); }
  std::size_t shared_out() const { return expert_in(2 * count); }

  std::string_view kind() const override { return kKind; }
  std::vector<TensorSpec> tensors() const override;
  std::vector<TensorSpec> unrounded() const override { return tensors(); }
  Cost cost(double sequences, double length) const override;
  std::uint64_t sequence_bytes(Index, Index, bool) const override { return 0; }
  Index chunk_channels(bool staged) const override;
};

// Names below the layer.
struct ExpertNames {
  std::string folder;  // "mlp": router "mlp.gate", experts "mlp.experts.N", "mlp.shared_expert"
  std::string gate;
  std::string up;
  std::string down;
};

// Fills the router and the shared expert's gate of `experts`.
DetachedHalf experts_half(const LayerTensors& tensors, const ExpertNames& names, Experts experts,
                          Index hidden, const NormSpec& norm);

}  // namespace calque::model
