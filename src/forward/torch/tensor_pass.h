#pragma once

#include <functional>
#include <span>
#include <vector>

#include "forward/torch/tensor_math.h"

namespace calque::forward {

// One block over some batches, cut at its input sites. Watched or not, the same products are made
// of the same rows.
class TensorPass {
 public:
  // Without an observer the caller has prepared all sites of `math`. `host_views`: the observer
  // gets copies on the host, which is also what it gets from tensors of the CPU.
  TensorPass(const model::BlockSpec& block, model::BlockWeights& weights, TensorMath& math,
             TensorStates& states, std::span<const TensorBatch> batches, BlockObserver* observer,
             bool host_views)
      : block_(block),
        weights_(weights),
        math_(math),
        states_(states),
        batches_(batches),
        observer_(observer),
        host_views_(host_views) {}

  void run();

 private:
  using Step = std::function<at::Tensor(const TensorBatch&)>;

  at::Tensor hidden_TH(const TensorBatch& batch) const {
    return states_.rows_TH(batch.first_row, batch.rows);
  }
  void show(const model::SiteSpec& site, const at::Tensor& inputs_TK);
  void finish_site(const model::SiteSpec& site);
  void show_norm(model::SiteKind kind);
  void run_half(model::SiteKind kind, const Step& step);

  // What all stages of a half with experts start from and add to, by batch.
  struct Experts {
    std::vector<at::Tensor> normed_TH;
    std::vector<at::Tensor> answers_TH;
    std::vector<TensorRouting> routing;
  };
  void run_experts();
  Experts start_experts() const;
  // Rows of one batch that the expert answers.
  static at::Tensor routed_to(Index expert, const Experts& state, std::size_t batch);
  void run_expert(const model::SiteSpec& site, Experts& state);
  void run_shared(const model::SiteSpec& site, Experts& state);

  const model::BlockSpec& block_;
  model::BlockWeights& weights_;
  TensorMath& math_;
  TensorStates& states_;
  std::span<const TensorBatch> batches_;
  BlockObserver* observer_;
  bool host_views_;
};

}  // namespace calque::forward
