#include "mixers/experts/tensors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include <limits>
#include <tuple>
#include <utility>

#include "mixers/mlp/tensors.h"

// The rules of cpu.cpp on tensors.
namespace calque::forward {
namespace {

// The rows of a batch that each expert answers, and the weights of its answers.
struct RoutedRows {
  struct Expert {
    at::Tensor rows;        // int64 [n], ascending
    at::Tensor weights_R1;  // fp32
  };
  std::vector<Expert> experts;
};

struct Chosen {
  at::Tensor experts_TU;  // int64
  at::Tensor weights_TU;
};

constexpr double kNever = -std::numeric_limits<double>::infinity();

// Indices of the largest of each row, of equals the first: argmax promises it, topk does not.
at::Tensor largest_of(at::Tensor values_TN, Index count) {
  std::vector<at::Tensor> best;
  for (Index n = 0; n < count; ++n) {
    best.push_back(values_TN.argmax(1, /*keepdim=*/true));
    values_TN.scatter_(1, best.back(), kNever);
  }
  return at::cat(best, 1);
}

// -infinity for the experts of all groups but the best.
at::Tensor of_best_groups(const model::Routing& routing, const at::Tensor& choice_TE) {
  const at::Tensor choice_TGN =
      choice_TE.view({choice_TE.size(0), routing.groups, choice_TE.size(1) / routing.groups});
  const at::Tensor worth_TG = std::get<0>(choice_TGN.topk(2, 2)).sum(2);
  const at::Tensor left_out_TG =
      at::ones_like(worth_TG, at::kBool).scatter_(1, largest_of(worth_TG, routing.groups_used), 0);
  return choice_TGN.masked_fill(left_out_TG.unsqueeze(2), kNever).view(choice_TE.sizes());
}

// Routing::choose for all rows at once. `bias_1E` may be undefined.
Chosen choose(const model::Routing& routing, const at::Tensor& scores_TE,
              const at::Tensor& bias_1E) {
  const bool softmax = routing.scores == model::Routing::Scores::kSoftmax;
  const at::Tensor p_TE = softmax ? at::softmax(scores_TE, 1) : at::sigmoid(scores_TE);
  at::Tensor choice_TE = bias_1E.defined() ? p_TE + bias_1E : p_TE.clone();
  if (routing.groups > 1) choice_TE = of_best_groups(routing, choice_TE);
  Chosen chosen;
  chosen.experts_TU = largest_of(choice_TE, routing.used);
  chosen.weights_TU = p_TE.gather(1, chosen.experts_TU);
  if (routing.normalize) {
    const at::Tensor sum_T1 = chosen.weights_TU.sum(1, /*keepdim=*/true);
    chosen.weights_TU.div_(sum_T1.clamp_min(routing.sum_floor).add_(routing.sum_extra));
  }
  chosen.weights_TU.mul_(routing.scale);
  return chosen;
}

class TensorExperts : public TensorMixer {
 public:
  explicit TensorExperts(const TensorHalf& half)
      : TensorMixer(half), spec_(half.mixer<model::Experts>()) {}

  at::Tensor output(const at::Tensor& hidden_TH, const TensorBatch&) const override {
    const at::Tensor normed_TH = norm(hidden_TH);
    const RoutedRows routing = route(hidden_TH, normed_TH);
    at::Tensor sum_TH = at::zeros_like(normed_TH, normed_TH.options().dtype(at::kFloat));
    for (Index e = 0; e < spec_.count; ++e)
      add_expert(e, routing, inputs_of(e, routed_to(e, routing, normed_TH)), sum_TH);
    if (spec_.shared_width > 0) add_shared(normed_TH, shared_inputs(normed_TH), sum_TH);
    return normed_output(sum_TH);
  }

  void run(TensorPass& pass) override {
    pass.show_norm(*this, model::Experts::kIn);
    Stages stages = start(pass);
    for (Index e = 0; e < spec_.count && !spec_.all_tokens; ++e) {
      for (std::size_t b = 0; b < pass.batches().size(); ++b)
        pass.show(*this, spec_.expert_in(e), routed_to(e, stages, b),
                  tokens_of(e, stages, pass, b));
      pass.finish(*this, spec_.expert_in(e));
    }
    for (Index e = 0; e < spec_.count; ++e) run_expert(e, stages, pass);
    if (spec_.shared_width > 0) run_shared(stages, pass);
    for (std::size_t b = 0; b < pass.batches().size(); ++b)
      pass.sum_TH(pass.batches()[b]).add_(normed_output(stages.answers_TH[b]));
  }

 private:
  // `normed_TH` is what the experts read.
  RoutedRows route(const at::Tensor& hidden_TH, const at::Tensor& normed_TH) const {
    const at::Tensor read_TH =
        spec_.router_norm ? apply_norm(*spec_.router_norm, hidden_TH) : normed_TH.to(at::kFloat);
    at::Tensor scores_TE = at::mm(read_TH, upload(spec_.router).t());
    if (spec_.router_scale != 1) scores_TE.mul_(spec_.router_scale);
    if (spec_.router_bias) scores_TE.add_(upload(*spec_.router_bias));
    const at::Tensor bias_1E = spec_.choice_bias ? upload(*spec_.choice_bias) : at::Tensor();
    const Chosen chosen = choose(spec_.routing, scores_TE, bias_1E);
    if (spec_.answer_scale)
      chosen.weights_TU.mul_(upload(*spec_.answer_scale)
                                 .squeeze(0)
                                 .index_select(0, chosen.experts_TU.flatten())
                                 .view(chosen.experts_TU.sizes()));
    const at::Tensor experts = chosen.experts_TU.flatten();
    const at::Tensor weights = chosen.weights_TU.flatten();
    // Stable, so each expert's rows stay in order.
    const at::Tensor order = at::argsort(experts, /*stable=*/true, 0, /*descending=*/false);
    const at::Tensor counts = at::bincount(experts, {}, spec_.count).cpu();
    RoutedRows routing;
    Index first = 0;
    for (Index e = 0; e < spec_.count; ++e) {
      const auto count = static_cast<Index>(counts.data_ptr<std::int64_t>()[e]);
      const at::Tensor places = order.narrow(0, first, count);
      routing.experts.push_back(
          {places.div(spec_.routing.used, "floor"), weights.index_select(0, places).unsqueeze(1)});
      first += count;
    }
    return routing;
  }

  // From normed rows to what the down of an expert, or of the shared one, reads.
  at::Tensor inputs_of(Index expert, const at::Tensor& normed_TH) const {
    return gated_by(spec_.gate_site(expert), spec_.gate_place(expert), normed_TH);
  }
  at::Tensor shared_inputs(const at::Tensor& normed_TH) const {
    return gated_by(model::Experts::kIn, 0, normed_TH);
  }
  at::Tensor gated_by(std::size_t site, std::size_t place, const at::Tensor& normed_TH) const {
    const std::vector<Linear>& linears = this->linears(site);
    const at::Tensor gate_TN = linears[place](normed_TH);
    return gated(spec_.activation, gate_TN, linears[place + 1](normed_TH));
  }

  static at::Tensor routed_to(Index expert, const RoutedRows& routing,
                              const at::Tensor& normed_TH) {
    return normed_TH.index_select(0, routing.experts[static_cast<std::size_t>(expert)].rows);
  }

  // Weighted answers, added to their rows of `sum_TH`. An expert has each row once at most, so the
  // sums do not depend on the order inside index_add.
  void add_expert(Index expert, const RoutedRows& routing, const at::Tensor& inputs_RK,
                  at::Tensor& sum_TH) const {
    const RoutedRows::Expert& routed = routing.experts[static_cast<std::size_t>(expert)];
    const at::Tensor out_RH = linears(spec_.expert_out(expert)).front()(inputs_RK).to(at::kFloat);
    sum_TH.index_add_(0, routed.rows, out_RH * routed.weights_R1);
  }

  void add_shared(const at::Tensor& normed_TH, const at::Tensor& inputs_TK,
                  at::Tensor& sum_TH) const {
    at::Tensor out_TH = linears(spec_.shared_out()).front()(inputs_TK).to(at::kFloat);
    if (spec_.shared_gate)
      out_TH.mul_(at::sigmoid(at::mm(normed_TH.to(at::kFloat), upload(*spec_.shared_gate).t())));
    sum_TH.add_(out_TH);
  }

  // All stages start from these and add to them, by batch.
  struct Stages {
    std::vector<at::Tensor> normed_TH;
    std::vector<at::Tensor> answers_TH;
    std::vector<RoutedRows> routing;
  };

  Stages start(const TensorPass& pass) const {
    Stages stages;
    for (const TensorBatch& batch : pass.batches()) {
      const at::Tensor rows_TH = pass.hidden_TH(batch);
      stages.normed_TH.push_back(norm(rows_TH));
      stages.routing.push_back(route(rows_TH, stages.normed_TH.back()));
      stages.answers_TH.push_back(at::zeros_like(rows_TH));
    }
    return stages;
  }

  static at::Tensor routed_to(Index expert, const Stages& stages, std::size_t batch) {
    return routed_to(expert, stages.routing[batch], stages.normed_TH[batch]);
  }

  // Places of the tokens that are sent to the expert, as ActivationView counts them.
  static at::Tensor tokens_of(Index expert, const Stages& stages, const TensorPass& pass,
                              std::size_t batch) {
    return stages.routing[batch].experts[static_cast<std::size_t>(expert)].rows +
           pass.batches()[batch].first_row;
  }

  void run_expert(Index expert, Stages& stages, TensorPass& pass) {
    std::vector<at::Tensor> inputs_RK;
    for (std::size_t b = 0; b < pass.batches().size(); ++b) {
      inputs_RK.push_back(inputs_of(expert, routed_to(expert, stages, b)));
      if (spec_.all_tokens)
        pass.show(*this, spec_.expert_out(expert), inputs_of(expert, stages.normed_TH[b]));
      else
        pass.show(*this, spec_.expert_out(expert), inputs_RK.back(),
                  tokens_of(expert, stages, pass, b));
    }
    pass.finish(*this, spec_.expert_out(expert));
    for (std::size_t b = 0; b < inputs_RK.size(); ++b)
      add_expert(expert, stages.routing[b], inputs_RK[b], stages.answers_TH[b]);
  }

  void run_shared(Stages& stages, TensorPass& pass) {
    std::vector<at::Tensor> inputs_TK;
    for (const at::Tensor& normed_TH : stages.normed_TH) {
      inputs_TK.push_back(shared_inputs(normed_TH));
      pass.show(*this, spec_.shared_out(), inputs_TK.back());
    }
    pass.finish(*this, spec_.shared_out());
    for (std::size_t b = 0; b < inputs_TK.size(); ++b)
      add_shared(stages.normed_TH[b], inputs_TK[b], stages.answers_TH[b]);
  }

  const model::Experts& spec_;
};

}  // namespace

std::unique_ptr<TensorMixer> make_tensor_experts(const TensorHalf& half) {
  return std::make_unique<TensorExperts>(half);
}

}  // namespace calque::forward
