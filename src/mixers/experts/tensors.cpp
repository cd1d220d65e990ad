#include "mixers/experts/tensors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include <utility>

#include "mixers/mlp/tensors.h"

// The rules of cpu.cpp on tensors.
namespace calque::forward {
namespace {

// The rows of a batch that each expert answers, and the weights of its answers.
struct Routing {
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

// The `used` most probable, of equals the first: argmax promises it, topk does not.
Chosen choose(const model::Experts& spec, at::Tensor probabilities_TE) {
  std::vector<at::Tensor> experts, weights;
  for (Index n = 0; n < spec.used; ++n) {
    experts.push_back(probabilities_TE.argmax(1, /*keepdim=*/true));
    weights.push_back(probabilities_TE.gather(1, experts.back()));
    probabilities_TE.scatter_(1, experts.back(), -1.0);
  }
  Chosen chosen{at::cat(experts, 1), at::cat(weights, 1)};
  if (spec.normalize) chosen.weights_TU.div_(chosen.weights_TU.sum(1, /*keepdim=*/true));
  return chosen;
}

class TensorExperts : public TensorMixer {
 public:
  explicit TensorExperts(const TensorHalf& half)
      : TensorMixer(half), spec_(half.mixer<model::Experts>()) {}

  at::Tensor output(const at::Tensor& hidden_TH, const TensorBatch&) const override {
    const at::Tensor normed_TH = norm(hidden_TH);
    const Routing routing = route(normed_TH);
    at::Tensor sum_TH = at::zeros_like(normed_TH, normed_TH.options().dtype(at::kFloat));
    for (Index e = 0; e < spec_.count; ++e)
      add_expert(e, routing, gated_at(spec_.expert_in(e), routed_to(e, routing, normed_TH)),
                 sum_TH);
    if (spec_.shared_width > 0)
      add_shared(normed_TH, gated_at(model::Experts::kIn, normed_TH), sum_TH);
    return normed_output(sum_TH);
  }

  void run(TensorPass& pass) override {
    pass.show_norm(*this, model::Experts::kIn);
    Stages stages = start(pass);
    for (Index e = 0; e < spec_.count; ++e) {
      for (std::size_t b = 0; b < pass.batches().size(); ++b)
        pass.show(*this, spec_.expert_in(e), routed_to(e, stages, b));
      pass.finish(*this, spec_.expert_in(e));
    }
    for (Index e = 0; e < spec_.count; ++e) run_expert(e, stages, pass);
    if (spec_.shared_width > 0) run_shared(stages, pass);
    for (std::size_t b = 0; b < pass.batches().size(); ++b)
      pass.hidden_TH(pass.batches()[b]).add_(normed_output(stages.answers_TH[b]));
  }

 private:
  Routing route(const at::Tensor& normed_TH) const {
    const at::Tensor scores_TE = at::mm(normed_TH.to(at::kFloat), upload(spec_.router).t());
    const Chosen chosen = choose(spec_, at::softmax(scores_TE, 1));
    const at::Tensor experts = chosen.experts_TU.flatten();
    const at::Tensor weights = chosen.weights_TU.flatten();
    // Stable, so each expert's rows stay in order.
    const at::Tensor order = at::argsort(experts, /*stable=*/true, 0, /*descending=*/false);
    const at::Tensor counts = at::bincount(experts, {}, spec_.count).cpu();
    Routing routing;
    Index first = 0;
    for (Index e = 0; e < spec_.count; ++e) {
      const auto count = static_cast<Index>(counts.data_ptr<std::int64_t>()[e]);
      const at::Tensor places = order.narrow(0, first, count);
      routing.experts.push_back(
          {places.div(spec_.used, "floor"), weights.index_select(0, places).unsqueeze(1)});
      first += count;
    }
    return routing;
  }

  at::Tensor gated_at(std::size_t site, const at::Tensor& normed_TH) const {
    const std::vector<Linear>& linears = this->linears(site);
    const at::Tensor gate_TN = linears.front()(normed_TH);
    return gated(spec_.activation, gate_TN, linears.back()(normed_TH));
  }

  static at::Tensor routed_to(Index expert, const Routing& routing, const at::Tensor& normed_TH) {
    return normed_TH.index_select(0, routing.experts[static_cast<std::size_t>(expert)].rows);
  }

  // Weighted answers, added to their rows of `sum_TH`. An expert has each row once at most, so the
  // sums do not depend on the order inside index_add.
  void add_expert(Index expert, const Routing& routing, const at::Tensor& inputs_RK,
                  at::Tensor& sum_TH) const {
    const Routing::Expert& routed = routing.experts[static_cast<std::size_t>(expert)];
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
    std::vector<Routing> routing;
  };

  Stages start(const TensorPass& pass) const {
    Stages stages;
    for (const TensorBatch& batch : pass.batches()) {
      const at::Tensor rows_TH = pass.hidden_TH(batch);
      stages.normed_TH.push_back(norm(rows_TH));
      stages.routing.push_back(route(stages.normed_TH.back()));
      stages.answers_TH.push_back(at::zeros_like(rows_TH));
    }
    return stages;
  }

  static at::Tensor routed_to(Index expert, const Stages& stages, std::size_t batch) {
    return routed_to(expert, stages.routing[batch], stages.normed_TH[batch]);
  }

  void run_expert(Index expert, Stages& stages, TensorPass& pass) {
    std::vector<at::Tensor> inputs_RK;
    for (std::size_t b = 0; b < pass.batches().size(); ++b) {
      inputs_RK.push_back(gated_at(spec_.expert_in(expert), routed_to(expert, stages, b)));
      pass.show(*this, spec_.expert_out(expert), inputs_RK.back());
    }
    pass.finish(*this, spec_.expert_out(expert));
    for (std::size_t b = 0; b < inputs_RK.size(); ++b)
      add_expert(expert, stages.routing[b], inputs_RK[b], stages.answers_TH[b]);
  }

  void run_shared(Stages& stages, TensorPass& pass) {
    std::vector<at::Tensor> inputs_TK;
    for (const at::Tensor& normed_TH : stages.normed_TH) {
      inputs_TK.push_back(gated_at(model::Experts::kIn, normed_TH));
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
