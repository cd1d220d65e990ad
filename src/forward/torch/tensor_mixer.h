#pragma once

#include <ATen/core/Tensor.h>

#include <cassert>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/torch/tensor_states.h"

// The common part of the mixers' passes by ATen's operators.
namespace calque::forward {

// A half of a block that is to be run.
struct TensorHalf {
  const model::BlockSpec& block;
  const model::HalfSpec& half;
  const model::BlockWeights& weights;
  const TensorStates& states;
  TensorStates* keeps;              // it leaves rows for later blocks there; null: in a trial
  const KvCacheRounding* kv_cache;  // null: none in this block
  const InputGrids* inputs;         // roundings of linears' inputs; null: none
  at::Device device;
  at::ScalarType compute;

  template <typename Spec>
  const Spec& mixer() const {
    assert(half.mixer->kind() == Spec::kKind);
    return static_cast<const Spec&>(*half.mixer);
  }
};

class TensorPass;

// One half, norm -> mixer -> norm -> add, by ATen's operators, for some sequences at a time. Norms,
// attention, routing and all sums over linears are in fp32; what linears read and make is in
// `compute`.
class TensorMixer {
 public:
  explicit TensorMixer(const TensorHalf& half) : half_(half), linears_(half.half.site_count) {}
  virtual ~TensorMixer() = default;

  // Takes the weights of the readers of the half's sites as they are now.
  void prepare(std::size_t site);
  void prepare_all();

  // The half adds this to the hidden states of a batch.
  virtual at::Tensor output(const at::Tensor& hidden_TH, const TensorBatch& batch) const = 0;
  // Runs all batches, cut at the half's sites. Watched or not, the same products are made of the
  // same rows.
  virtual void run(TensorPass& pass) = 0;

  const model::SiteSpec& site(std::size_t index) const {
    return half_.block.sites[half_.half.first_site + index];
  }
  // The half's first norm.
  at::Tensor norm(const at::Tensor& hidden_TH) const;

  at::Tensor apply_norm(const model::NormSpec& spec, const at::Tensor& x) const;

 protected:
  struct Linear {
    at::Tensor weight_NK;
    at::Tensor bias_N;                  // undefined: none
    const InputGrid* inputs = nullptr;  // rounding of what comes in; null: none
    at::Tensor operator()(const at::Tensor& inputs_TK) const;
  };

  const std::vector<Linear>& linears(std::size_t site) const { return linears_[site]; }
  at::Tensor upload(const model::TensorSpec& spec) const;  // fp32
  // The last linear's output in fp32, normed where the half norms it.
  at::Tensor normed_output(const at::Tensor& output_TH) const;

  TensorHalf half_;

 private:
  std::vector<std::vector<Linear>> linears_;
  mutable std::map<std::string, at::Tensor> uploaded_;  // norms, routers
};

// A mixer of two sites: the first one's linears and what comes between make the inputs of the
// second, whose one linear makes the output.
class TwoSiteTensorMixer : public TensorMixer {
 public:
  using TensorMixer::TensorMixer;
  at::Tensor output(const at::Tensor& hidden_TH, const TensorBatch& batch) const final {
    return last(inner(norm(hidden_TH), batch));
  }
  void run(TensorPass& pass) final;

 protected:
  // From the inputs of the first site to those of the second.
  virtual at::Tensor inner(const at::Tensor& normed_TH, const TensorBatch& batch) const = 0;
  at::Tensor last(const at::Tensor& inputs_TK) const {
    return normed_output(linears(1).front()(inputs_TK));
  }
};

// One half of a block over some batches, while an observer (null: none) looks on.
class TensorPass {
 public:
  // Without an observer the caller has prepared all sites. `sums_TH`: what the half adds is added
  // to these rows of the batches, one after the other. `host_views`: the observer gets copies on
  // the host, which is also what it gets from tensors of the CPU.
  TensorPass(TensorStates& states, std::span<const TensorBatch> batches, at::Tensor sums_TH,
             BlockObserver* observer, model::BlockWeights& weights, bool host_views)
      : states_(states),
        batches_(batches),
        sums_TH_(std::move(sums_TH)),
        observer_(observer),
        weights_(weights),
        host_views_(host_views) {}

  std::span<const TensorBatch> batches() const { return batches_; }
  at::Tensor hidden_TH(const TensorBatch& batch) const {
    return states_.rows_TH(batch.first_row, batch.rows);
  }
  at::Tensor sum_TH(const TensorBatch& batch) const {
    return sums_TH_.narrow(0, batch.first_row - batches_.front().first_row, batch.rows);
  }
  // Shows what the half's norm leaves, the inputs of `site`, and finishes the site. The norm is
  // computed again in the next step: cheaper than keeping it for all rows.
  void show_norm(TensorMixer& mixer, std::size_t site);
  // Rows of the inputs of `site`, in order. `tokens`: ActivationView's, int64; undefined: all.
  void show(const TensorMixer& mixer, std::size_t site, const at::Tensor& inputs_TK,
            const at::Tensor& tokens = {});
  // When all have been shown.
  void finish(TensorMixer& mixer, std::size_t site);

 private:
  TensorStates& states_;
  std::span<const TensorBatch> batches_;
  at::Tensor sums_TH_;
  BlockObserver* observer_;
  model::BlockWeights& weights_;
  bool host_views_;
};

// The table of mixers (tensor_mixers.cpp): the pass of `half.half.mixer`, by its kind.
std::unique_ptr<TensorMixer> make_tensor_mixer(const TensorHalf& half);

// A copy on `device`, rounded there.
at::Tensor on_device(MatrixView<const float> matrix, const at::Device& device,
                     at::ScalarType dtype);

// As round_inputs of input_rounding.h, in the precision of `inputs_TK`.
at::Tensor rounded_inputs(const InputGrid& grid, const at::Tensor& inputs_TK);

// x / sqrt(mean(x^2) + eps) * (offset + weight) of the last dimension, fp32.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps);

}  // namespace calque::forward
