#include <ATen/ops/isfinite.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>
#include <torch/csrc/api/include/torch/version.h>

#include <vector>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/forward/not_finite.h"
#include "calque/forward/token_rows.h"
#include "forward/kept_rows.h"
#include "forward/torch/plugin.h"
#include "forward/torch/tensor_guard.h"
#include "forward/torch/tensor_mixer.h"
#include "forward/torch/tensor_stream.h"
#include "forward/torch/tensors.h"

namespace calque::forward {
namespace {

at::Device device_of(const std::string& name) {
  if (name == "tensors") return at::kCPU;
  for (int gpu = 0; gpu < torch_gpus(); ++gpu)
    if (name == fmt::format("cuda:{}", gpu)) return {at::kCUDA, static_cast<at::DeviceIndex>(gpu)};
  throw Error(ErrorKind::kConfig, "E129",
              fmt::format("the forward pass cannot run on '{}': this LibTorch sees {} GPUs. Set "
                          "runtime.stages.forward: cpu",
                          name, torch_gpus()));
}

at::ScalarType scalar_type_of(ComputeDType dtype) {
  return dtype == ComputeDType::kBFloat16 ? at::kBFloat16 : at::kFloat;
}

// Final norm and output projection on the device of the hidden states.
class TensorHead : public Head {
 public:
  TensorHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
             MatrixView<const float> head_VH, const at::Device& device, at::ScalarType compute,
             const InputGrid* inputs);

  void logits(const HiddenStates& hidden, Index sequence, Index first,
              MatrixView<float> logits_TV) const override;

 private:
  at::Tensor norm_H_;
  at::Tensor head_VH_;
  double norm_offset_;
  double norm_eps_;
  double softcap_;
  const InputGrid* inputs_;  // null: inputs stay as they are
};

TensorHead::TensorHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
                       MatrixView<const float> head_VH, const at::Device& device,
                       at::ScalarType compute, const InputGrid* inputs)
    : norm_H_(on_device(norm_1H, device, at::kFloat).squeeze(0)),
      head_VH_(on_device(head_VH, device, compute)),
      norm_offset_(config.norm_plus_one ? 1.0 : 0.0),
      norm_eps_(config.rms_norm_eps),
      softcap_(config.logit_softcap),
      inputs_(inputs) {}

void TensorHead::logits(const HiddenStates& hidden, Index sequence, Index first,
                        MatrixView<float> logits_TV) const {
  guarded(head_VH_.device(), [&] {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    const at::Tensor rows_TH = states.sequence_TH(sequence).narrow(0, first, logits_TV.rows());
    at::Tensor normed_TH = rms_norm(rows_TH, norm_H_, norm_offset_, norm_eps_);
    if (inputs_ != nullptr) normed_TH = rounded_inputs(*inputs_, normed_TH);
    at::Tensor made_TV = at::mm(normed_TH.to(head_VH_.scalar_type()), head_VH_.t()).to(at::kFloat);
    if (softcap_ != 0) made_TV.div_(softcap_).tanh_().mul_(softcap_);
    borrow(logits_TV).copy_(made_TV);
  });
}

void write_rows(const TensorStates& states, const at::Tensor& rows_TK, const io::ByteSink& sink) {
  for (Index b = 0; b < states.sequences(); ++b) {
    auto copy_TK = Matrix<float>::uninitialized(states.length(b), rows_TK.size(1));
    guarded(rows_TK.device(),
            [&] { borrow(copy_TK.view()).copy_(states.of_sequence(rows_TK, b)); });
    sink(std::as_bytes(std::span(copy_TK.data(), static_cast<std::size_t>(copy_TK.size()))));
  }
}

void read_rows(const TensorStates& states, const at::Tensor& rows_TK,
               const io::ByteSource& source) {
  for (Index b = 0; b < states.sequences(); ++b) {
    auto copy_TK = Matrix<float>::uninitialized(states.length(b), rows_TK.size(1));
    source(std::as_writable_bytes(
        std::span(copy_TK.data(), static_cast<std::size_t>(copy_TK.size()))));
    guarded(rows_TK.device(),
            [&] { states.of_sequence(rows_TK, b).copy_(borrow(copy_TK.view())); });
  }
}

// A runner whose arithmetic is ATen's operators on the device that `options` name: "cuda:N", or
// "tensors" for the CPU. Hidden states and the inputs of later stages stay on the device. In fp32
// and bf16 its results are those of the CPU's runner but for the order of sums.
// Error(kConfig, "E129") if this LibTorch cannot use the device.
class TensorRunner : public BlockRunner {
 public:
  TensorRunner(const model::ModelConfig& config, const RunnerOptions& options)
      : config_(config),
        device_(device_of(options.device)),
        compute_(scalar_type_of(options.dtype)),
        host_views_(options.host_views),
        kv_cache_(options.kv_cache),
        inputs_(options.inputs) {
    if (device_.is_cuda()) sum_in_float32();
  }

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    std::unique_ptr<TensorStates> states;
    guarded(device_, [&] {
      states = std::make_unique<TensorStates>(embedding_VH.cols(), lengths_B, device_);
      for (Index b = 0; b < states->sequences(); ++b) {
        const Matrix<float> rows_TH = embedded(ids_BS.row(b), states->length(b), embedding_VH);
        states->sequence_TH(b).copy_(borrow(rows_TH.view()));
      }
    });
    return states;
  }

  void run_block(const model::BlockSpec& block, model::BlockWeights& weights, HiddenStates& hidden,
                 BlockObserver* observer) override {
    auto& states = dynamic_cast<TensorStates&>(hidden);
    guarded(device_, [&] {
      std::vector<std::unique_ptr<TensorMixer>> mixers;
      for (const model::HalfSpec& half : block.halves)
        mixers.push_back(make_tensor_mixer(half_of(block, half, weights, states, &states)));
      const auto run = [&](std::span<const TensorBatch> batches) {
        const Index first = batches.empty() ? 0 : batches.front().first_row;
        const Index end_row = batches.empty() ? 0 : batches.back().first_row + batches.back().rows;
        at::Tensor rows_TH = states.rows_TH(first, end_row - first);
        for (std::size_t i = 0, end = 0; i < mixers.size(); i = end) {
          end = block.end_of_group(i);
          const bool single = end == i + 1;
          const at::Tensor sums_TH = single ? rows_TH : at::zeros_like(rows_TH);
          for (std::size_t m = i; m < end; ++m) {
            TensorPass pass(states, batches, sums_TH, observer, weights, host_views_);
            mixers[m]->run(pass);
          }
          const auto& norm = block.halves[end - 1].sum_norm;
          if (!single) rows_TH.add_(norm ? mixers[end - 1]->apply_norm(*norm, sums_TH) : sums_TH);
        }
        if (block.scalar) rows_TH.mul_(weights.at(block.scalar->name)(0, 0));
      };
      if (observer != nullptr) {
        run(states.batches());
      } else {
        for (const auto& mixer : mixers) mixer->prepare_all();
        for (const TensorBatch& batch : states.batches()) run({&batch, 1});
      }
    });
    if (observer == nullptr || observer->wants_output()) require_finite(block, states);
  }

  void keep(HiddenStates& hidden, const model::KeptRows& rows, Index sequence,
            MatrixView<const float> values_TW) override {
    auto& states = dynamic_cast<TensorStates&>(hidden);
    guarded(device_,
            [&] { states.of_sequence(states.kept(rows), sequence).copy_(borrow(values_TW)); });
  }

  Matrix<float> half_output(const model::BlockSpec& block, const model::BlockWeights& weights,
                            const HiddenStates& hidden, std::size_t half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    Matrix<float> output_TH;
    guarded(device_, [&] {
      const auto mixer =
          make_tensor_mixer(half_of(block, block.halves[half], weights, states, nullptr));
      mixer->prepare_all();
      const at::Tensor rows_TH = states.sequence_TH(sequence);
      output_TH = Matrix<float>(rows_TH.size(0), rows_TH.size(1));
      if (rows_TH.size(0) > 0)
        borrow(output_TH.view()).copy_(mixer->output(rows_TH, states.batch_of(sequence)));
    });
    return output_TH;
  }

  Matrix<float> head_input(MatrixView<const float> final_norm_1H, const HiddenStates& hidden,
                           Index sequence) const override {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    Matrix<float> normed_TH;
    guarded(device_, [&] {
      const at::Tensor rows_TH = states.sequence_TH(sequence);
      const at::Tensor norm_H = on_device(final_norm_1H, device_, at::kFloat).squeeze(0);
      normed_TH = Matrix<float>(rows_TH.size(0), rows_TH.size(1));
      borrow(normed_TH.view())
          .copy_(
              rms_norm(rows_TH, norm_H, config_.norm_plus_one ? 1.0 : 0.0, config_.rms_norm_eps));
    });
    return normed_TH;
  }

  void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const override {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    write_rows(states, states.all_TH(), sink);
    write_count(states.all_kept().size(), sink);
    for (const auto& [name, rows_TK] : states.all_kept()) {
      write_kept({name, rows_TK.size(1)}, sink);
      write_rows(states, rows_TK, sink);
    }
  }

  std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                            const io::ByteSource& source) override {
    std::unique_ptr<TensorStates> states;
    guarded(device_, [&] { states = std::make_unique<TensorStates>(width, lengths_B, device_); });
    read_rows(*states, states->all_TH(), source);
    for (std::size_t left = read_count(source); left > 0; --left) {
      const model::KeptRows rows = read_kept(source);
      guarded(device_, [&] { states->kept(rows); });
      read_rows(*states, states->kept(rows), source);
    }
    return states;
  }

  std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                  MatrixView<const float> head_VH) override {
    std::unique_ptr<Head> head;
    guarded(device_, [&] {
      head =
          std::make_unique<TensorHead>(config_, final_norm_1H, head_VH, device_, compute_,
                                       find_inputs(inputs_.get(), config_.names.head + ".weight"));
    });
    return head;
  }

 private:
  // The device is asked once for all sequences.
  void require_finite(const model::BlockSpec& block, const TensorStates& states) const {
    if (states.sequences() == 0) return;
    at::Tensor finite_S;
    guarded(device_, [&] {
      std::vector<at::Tensor> flags;
      for (Index s = 0; s < states.sequences(); ++s)
        flags.push_back(at::isfinite(states.sequence_TH(s)).all());
      finite_S = at::stack(flags).to(at::kCPU);
    });
    for (Index s = 0; s < states.sequences(); ++s) {
      if (finite_S.data_ptr<bool>()[s]) continue;
      Matrix<float> copy_TH(states.length(s), states.all_TH().size(1));
      guarded(device_, [&] { borrow(copy_TH.view()).copy_(states.sequence_TH(s)); });
      Index at = 0;
      while (is_finite(copy_TH.data()[at])) ++at;
      throw_output_not_finite(
          block, states.first_sequence + s, at / copy_TH.cols(), copy_TH.data()[at],
          compute_ == at::kBFloat16 ? ComputeDType::kBFloat16 : ComputeDType::kFloat32);
    }
  }

  TensorHalf half_of(const model::BlockSpec& block, const model::HalfSpec& half,
                     const model::BlockWeights& weights, const TensorStates& states,
                     TensorStates* keeps) const {
    const bool rounds = kv_cache_ != nullptr && kv_cache_->rounds(block.layer);
    return {block,         half,    weights, states, keeps, rounds ? kv_cache_.get() : nullptr,
            inputs_.get(), device_, compute_};
  }

  Matrix<float> embedded(const std::int32_t* ids, Index length,
                         MatrixView<const float> embedding_VH) const {
    const auto scale = static_cast<float>(config_.embedding_scale);
    Matrix<float> rows_TH = Matrix<float>::uninitialized(length, embedding_VH.cols());
    for (Index t = 0; t < length; ++t) {
      const float* const row = embedding_VH.row(ids[t]);
      for (Index i = 0; i < rows_TH.cols(); ++i) rows_TH(t, i) = scale * row[i];
    }
    return rows_TH;
  }

  model::ModelConfig config_;
  at::Device device_;
  at::ScalarType compute_;
  bool host_views_;
  std::shared_ptr<const KvCacheRounding> kv_cache_;
  std::shared_ptr<const InputGrids> inputs_;
};

}  // namespace

extern "C" BlockRunner* calque_make_torch_runner(const model::ModelConfig& config,
                                                 const RunnerOptions& options) {
  return new TensorRunner(config, options);
}

extern "C" int calque_count_torch_gpus() { return torch_gpus(); }

extern "C" const char* calque_torch_interface() { return CALQUE_RUNNER_INTERFACE; }

extern "C" const char* calque_describe_torch() { return "LibTorch " TORCH_VERSION; }

}  // namespace calque::forward
