#include "forward/torch/tensor_pass.h"

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <utility>

#include "forward/torch/tensor_stream.h"
#include "forward/torch/tensors.h"

namespace calque::forward {
namespace {

// Rows that an observer gets at a time, as from the other runner.
constexpr Index kObservedRows = 4096;

ActivationView host_view(const at::Tensor& rows_TK) {
  if (rows_TK.scalar_type() == at::kBFloat16) return {{}, view_of<const BFloat16>(rows_TK), {}};
  return {view_of<const float>(rows_TK), {}, {}};
}

ActivationView device_view(const at::Tensor& rows_TK) {
  ActivationView view;
  view.device_TK = {.data = rows_TK.data_ptr(),
                    .dtype = rows_TK.scalar_type() == at::kBFloat16 ? DType::kBF16 : DType::kF32,
                    .rows = rows_TK.size(0),
                    .cols = rows_TK.size(1),
                    .stride = rows_TK.stride(0),
                    .device = rows_TK.device().index(),
                    .stream = current_stream(rows_TK.device())};
  return view;
}

}  // namespace

void TensorPass::run() {
  show_norm(model::SiteKind::kAttnIn);
  run_half(model::SiteKind::kAttnOut, [this](const TensorBatch& batch) {
    return math_.attention(math_.attn_norm(hidden_TH(batch)), batch.lengths);
  });
  show_norm(model::SiteKind::kMlpIn);
  if (!block_.experts.empty()) return run_experts();
  run_half(model::SiteKind::kMlpOut, [this](const TensorBatch& batch) {
    return math_.gated(model::SiteKind::kMlpIn, -1, math_.mlp_norm(hidden_TH(batch)));
  });
}

void TensorPass::show(const model::SiteSpec& site, const at::Tensor& inputs_TK) {
  if (observer_ == nullptr) return;
  const Index rows = inputs_TK.size(0);
  for (Index first = 0; first < rows; first += kObservedRows) {
    const at::Tensor chunk = inputs_TK.narrow(0, first, std::min(kObservedRows, rows - first));
    if (chunk.is_cpu() || host_views_)
      observer_->site_input(site, host_view(chunk.cpu()));
    else
      observer_->site_input(site, device_view(chunk));
  }
}

void TensorPass::finish_site(const model::SiteSpec& site) {
  if (observer_ == nullptr) return;
  observer_->site_ready(site, weights_);
  math_.prepare(site);
}

// The norms are computed again in the next step: cheaper than keeping them for all rows.
void TensorPass::show_norm(model::SiteKind kind) {
  if (observer_ == nullptr) return;
  const model::SiteSpec& site = block_.site(kind);
  for (const TensorBatch& batch : batches_) {
    const at::Tensor rows_TH = hidden_TH(batch);
    show(site,
         kind == model::SiteKind::kAttnIn ? math_.attn_norm(rows_TH) : math_.mlp_norm(rows_TH));
  }
  finish_site(site);
}

// `step` makes the inputs of `kind`; they are shown and then go through its linear.
void TensorPass::run_half(model::SiteKind kind, const Step& step) {
  const model::SiteSpec& site = block_.site(kind);
  std::vector<at::Tensor> inputs_TK;
  for (const TensorBatch& batch : batches_) {
    inputs_TK.push_back(step(batch));
    show(site, inputs_TK.back());
  }
  finish_site(site);
  for (std::size_t b = 0; b < batches_.size(); ++b)
    hidden_TH(batches_[b]).add_(math_.output(kind, std::exchange(inputs_TK[b], {})));
}

void TensorPass::run_experts() {
  Experts state = start_experts();
  for (const model::SiteSpec& site : block_.sites) {
    if (site.kind == model::SiteKind::kExpertIn) {
      for (std::size_t b = 0; b < batches_.size(); ++b)
        show(site, routed_to(site.expert, state, b));
      finish_site(site);
    }
    if (site.kind == model::SiteKind::kExpertOut) run_expert(site, state);
    if (site.kind == model::SiteKind::kMlpOut) run_shared(site, state);
  }
  for (std::size_t b = 0; b < batches_.size(); ++b)
    hidden_TH(batches_[b]).add_(state.answers_TH[b]);
}

auto TensorPass::start_experts() const -> Experts {
  Experts state;
  for (const TensorBatch& batch : batches_) {
    const at::Tensor rows_TH = hidden_TH(batch);
    state.normed_TH.push_back(math_.mlp_norm(rows_TH));
    state.routing.push_back(math_.route(state.normed_TH.back()));
    state.answers_TH.push_back(at::zeros_like(rows_TH));
  }
  return state;
}

at::Tensor TensorPass::routed_to(Index expert, const Experts& state, std::size_t batch) {
  const auto& routed = state.routing[batch].experts[static_cast<std::size_t>(expert)];
  return state.normed_TH[batch].index_select(0, routed.rows);
}

void TensorPass::run_expert(const model::SiteSpec& site, Experts& state) {
  std::vector<at::Tensor> inputs_RK;
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    inputs_RK.push_back(
        math_.gated(model::SiteKind::kExpertIn, site.expert, routed_to(site.expert, state, b)));
    show(site, inputs_RK.back());
  }
  finish_site(site);
  for (std::size_t b = 0; b < batches_.size(); ++b)
    math_.add_expert(site.expert, state.routing[b], inputs_RK[b], state.answers_TH[b]);
}

void TensorPass::run_shared(const model::SiteSpec& site, Experts& state) {
  std::vector<at::Tensor> inputs_TK;
  for (const at::Tensor& normed_TH : state.normed_TH) {
    inputs_TK.push_back(math_.gated(model::SiteKind::kMlpIn, -1, normed_TH));
    show(site, inputs_TK.back());
  }
  finish_site(site);
  for (std::size_t b = 0; b < batches_.size(); ++b)
    math_.add_shared(state.normed_TH[b], inputs_TK[b], state.answers_TH[b]);
}

}  // namespace calque::forward
