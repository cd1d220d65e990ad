#pragma once

#include <optional>
#include <string>

#include "calque/model/block.h"
#include "calque/model/config.h"
#include "model/layer_tensors.h"

namespace calque::model {

// An MLP makes act(gate) * up of what gate and up leave, or follows the rule of a clamped gate.
struct Activation {
  std::string act = "silu";  // or "gelu_pytorch_tanh"
  ClampedGate clamped;       // in its place
};

// act(gate x) * up x, then down. Sites: mlp_in (gate and up, or one linear with gate above up),
// mlp_out (down).
struct Mlp : Mixer {
  static constexpr std::string_view kKind = "mlp";
  enum Site : std::size_t { kIn, kOut };

  Index width = 0;  // gate's and up's
  Activation activation;

  std::string_view kind() const override { return kKind; }
  Cost cost(double sequences, double length) const override;
  std::uint64_t sequence_bytes(Index, Index, bool) const override { return 0; }
  // The channels that gate and up leave; in one piece also those that activate them.
  Index chunk_channels(bool staged) const override { return (staged ? 1 : 2) * width; }
};

struct MlpLayout {
  bool bias = false;
  bool fused = false;  // gate and up are one linear
};

DetachedHalf mlp_half(const LayerTensors& tensors, const MlpLayout& layout, Mlp mlp, Index hidden,
                      const std::optional<NormSpec>& norm);

}  // namespace calque::model
