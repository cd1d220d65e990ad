#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>

#include "forward/torch/tensor_math.h"

// The half of a block that has experts: routing.h's rules on tensors.
namespace calque::forward {
namespace {

struct Chosen {
  at::Tensor experts_TU;  // int64
  at::Tensor weights_TU;
};

// The `used` most probable, of equals the first: argmax promises it, topk does not.
Chosen choose(const model::ExpertsSpec& spec, at::Tensor probabilities_TE) {
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

}  // namespace

TensorRouting TensorMath::route(const at::Tensor& normed_TH) const {
  const model::ExpertsSpec& spec = block_.experts.front();
  const at::Tensor scores_TE = at::mm(normed_TH.to(at::kFloat), upload(spec.router).t());
  const Chosen chosen = choose(spec, at::softmax(scores_TE, 1));
  const at::Tensor experts = chosen.experts_TU.flatten();
  const at::Tensor weights = chosen.weights_TU.flatten();
  // Stable, so each expert's rows stay in order.
  const at::Tensor order = at::argsort(experts, /*stable=*/true, 0, /*descending=*/false);
  const at::Tensor counts = at::bincount(experts, {}, spec.count).cpu();
  TensorRouting routing;
  Index first = 0;
  for (Index e = 0; e < spec.count; ++e) {
    const auto count = static_cast<Index>(counts.data_ptr<std::int64_t>()[e]);
    const at::Tensor places = order.narrow(0, first, count);
    routing.experts.push_back(
        {places.div(spec.used, "floor"), weights.index_select(0, places).unsqueeze(1)});
    first += count;
  }
  return routing;
}

at::Tensor TensorMath::experts(const at::Tensor& normed_TH) const {
  const TensorRouting routing = route(normed_TH);
  at::Tensor sum_TH = at::zeros_like(normed_TH, normed_TH.options().dtype(at::kFloat));
  for (Index e = 0; e < block_.experts.front().count; ++e) {
    const at::Tensor& rows = routing.experts[static_cast<std::size_t>(e)].rows;
    add_expert(e, routing, gated(model::SiteKind::kExpertIn, e, normed_TH.index_select(0, rows)),
               sum_TH);
  }
  if (block_.has_site(model::SiteKind::kMlpOut))
    add_shared(normed_TH, gated(model::SiteKind::kMlpIn, -1, normed_TH), sum_TH);
  return sum_TH;
}

// An expert has each row once at most, so the sums do not depend on the order inside index_add.
void TensorMath::add_expert(Index expert, const TensorRouting& routing, const at::Tensor& inputs_RK,
                            at::Tensor& sum_TH) const {
  const TensorRouting::Expert& routed = routing.experts[static_cast<std::size_t>(expert)];
  const at::Tensor out_RH =
      linears(model::SiteKind::kExpertOut, expert).front()(inputs_RK).to(at::kFloat);
  sum_TH.index_add_(0, routed.rows, out_RH * routed.weights_R1);
}

void TensorMath::add_shared(const at::Tensor& normed_TH, const at::Tensor& inputs_TK,
                            at::Tensor& sum_TH) const {
  at::Tensor out_TH = linears(model::SiteKind::kMlpOut).front()(inputs_TK).to(at::kFloat);
  const std::vector<model::TensorSpec>& gate = block_.experts.front().shared_gate;
  if (!gate.empty())
    out_TH.mul_(at::sigmoid(at::mm(normed_TH.to(at::kFloat), upload(gate.front()).t())));
  sum_TH.add_(out_TH);
}

}  // namespace calque::forward
