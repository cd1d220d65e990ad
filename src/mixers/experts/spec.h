#pragma once

#include <optional>
#include <string>

#include "calque/model/block.h"
#include "calque/model/routing.h"
#include "mixers/mlp/spec.h"
#include "model/layer_tensors.h"

namespace calque::model {

// Experts, each an MLP: a router sends every token to some of `count`, and their weighted answers
// are summed, with that of a shared one if there is one (several that a family counts are one,
// wider). Sites: mlp_in, or experts_in beside a dense MLP (all tokens; the shared expert's gate and
// up, or no readers), expert_in of every expert (gate and up), expert_out of every expert (down),
// mlp_out if there is a shared expert (its down).
struct Experts : Mixer {
  static constexpr std::string_view kKind = "experts";

  Index count = 0;
  Routing routing;
  Index width = 0;         // one expert's
  Index shared_width = 0;  // 0: no shared expert
  Activation activation;
  TensorSpec router;                      // [count, hidden]; never quantized
  std::optional<TensorSpec> router_bias;  // count values, added to the scores
  std::optional<TensorSpec> choice_bias;  // count values: Routing's bias
  std::optional<TensorSpec> shared_gate;  // [1, hidden]: sigmoid weight of the shared expert
  // The router reads the half's hidden states through a norm of its own, not what the experts read.
  std::optional<NormSpec> router_norm;
  double router_scale = 1;                 // scores are multiplied by this, before any bias
  std::optional<TensorSpec> answer_scale;  // count values: an expert's weight is multiplied by its

  // True after show_all_tokens (calque/model/expert_tokens.h): there are no expert_in, and
  // expert_out shows all tokens.
  bool all_tokens = false;

  // In the half's sites.
  static constexpr std::size_t kIn = 0;
  std::size_t expert_in(Index e) const { return 1 + static_cast<std::size_t>(e); }
  std::size_t expert_out(Index e) const { return expert_in(all_tokens ? e : count + e); }
  std::size_t shared_out() const { return expert_out(count); }
  // The site that an expert's gate and up read, and the gate's place among its readers.
  std::size_t gate_site(Index e) const { return all_tokens ? kIn : expert_in(e); }
  std::size_t gate_place(Index e) const {
    return all_tokens ? static_cast<std::size_t>((shared_width > 0 ? 2 : 0) + 2 * e) : 0;
  }

  std::string_view kind() const override { return kKind; }
  std::vector<TensorSpec> tensors() const override;
  std::vector<TensorSpec> unrounded() const override;
  Cost cost(double sequences, double length) const override;
  std::uint64_t sequence_bytes(Index, Index, bool) const override { return 0; }
  Index chunk_channels(bool staged) const override;
};

// Names below the layer; all but the first below `folder`, and those of linears below an expert.
struct ExpertNames {
  std::string folder = "mlp";  // experts are "mlp.experts.N"; "": below the layer
  std::string site_in = "mlp_in";
  std::string gate = "gate_proj";
  std::string up = "up_proj";
  std::string down = "down_proj";
  std::string router = "gate";
  std::string router_norm;   // the tensor's whole name, "router.scale"; "": none
  std::string answer_scale;  // the tensor's whole name; "": none
  bool router_bias = false;
  bool bias = false;        // the linears of routed experts have biases
  std::string choice_bias;  // the tensor's whole name, "gate.e_score_correction_bias"; "": none
  bool choice_bias_is_row = false;  // its shape is [1, count], not [count]
  std::string choice_bias_gguf = "exp_probs_b.bias";
  std::string shared = "shared_expert";
  std::string shared_gate;  // "shared_expert_gate"; "": the shared expert's answer counts fully
};

// Fills the router's tensors and the shared expert's gate of `experts`; the router's own norm has
// the epsilon of `norm`.
DetachedHalf experts_half(const LayerTensors& tensors, const ExpertNames& names, Experts experts,
                          Index hidden, const std::optional<NormSpec>& norm);

}  // namespace calque::model
