#include <fmt/format.h>
#include <torch/csrc/api/include/torch/version.h>

#include <vector>

#include "calque/core/error.h"
#include "calque/forward/token_rows.h"
#include "forward/torch/plugin.h"
#include "forward/torch/tensor_guard.h"
#include "forward/torch/tensor_head.h"
#include "forward/torch/tensor_pass.h"
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

bool belongs_to(BlockHalf half, model::SiteKind kind) {
  const bool attends = kind == model::SiteKind::kAttnIn || kind == model::SiteKind::kAttnOut;
  return attends == (half == BlockHalf::kAttention);
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
        kv_cache_(options.kv_cache) {
    if (device_.is_cuda()) sum_in_float32();
  }

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    std::unique_ptr<TensorStates> states;
    guarded(device_, [&] {
      states = std::make_unique<TensorStates>(config_, embedding_VH.cols(), lengths_B, device_);
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
      TensorMath math = math_of(block, weights, states);
      if (observer != nullptr)
        return TensorPass(block, weights, math, states, states.batches(), observer, host_views_)
            .run();
      for (const model::SiteSpec& site : block.sites) math.prepare(site);
      for (const TensorBatch& batch : states.batches())
        TensorPass(block, weights, math, states, {&batch, 1}, nullptr, host_views_).run();
    });
  }

  Matrix<float> half_output(const model::BlockSpec& block, const model::BlockWeights& weights,
                            const HiddenStates& hidden, BlockHalf half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    Matrix<float> output_TH;
    guarded(device_, [&] {
      TensorMath math = math_of(block, weights, states);
      for (const model::SiteSpec& site : block.sites)
        if (belongs_to(half, site.kind)) math.prepare(site);
      const at::Tensor rows_TH = states.sequence_TH(sequence);
      output_TH = Matrix<float>(rows_TH.size(0), rows_TH.size(1));
      if (rows_TH.size(0) > 0) borrow(output_TH.view()).copy_(half_of(math, block, half, rows_TH));
    });
    return output_TH;
  }

  void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const override {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    for (Index b = 0; b < states.sequences(); ++b) {
      auto rows_TH = Matrix<float>::uninitialized(states.length(b), states.all_TH().size(1));
      guarded(device_, [&] { borrow(rows_TH.view()).copy_(states.sequence_TH(b)); });
      sink(std::as_bytes(std::span(rows_TH.data(), static_cast<std::size_t>(rows_TH.size()))));
    }
  }

  std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                            const io::ByteSource& source) override {
    std::unique_ptr<TensorStates> states;
    guarded(device_,
            [&] { states = std::make_unique<TensorStates>(config_, width, lengths_B, device_); });
    for (Index b = 0; b < states->sequences(); ++b) {
      auto rows_TH = Matrix<float>::uninitialized(states->length(b), width);
      source(std::as_writable_bytes(
          std::span(rows_TH.data(), static_cast<std::size_t>(rows_TH.size()))));
      guarded(device_, [&] { states->sequence_TH(b).copy_(borrow(rows_TH.view())); });
    }
    return states;
  }

  std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                  MatrixView<const float> head_VH) override {
    std::unique_ptr<Head> head;
    guarded(device_, [&] {
      head = std::make_unique<TensorHead>(config_, final_norm_1H, head_VH, device_, compute_);
    });
    return head;
  }

 private:
  TensorMath math_of(const model::BlockSpec& block, const model::BlockWeights& weights,
                     const TensorStates& states) const {
    return {block, weights, config_, states.rotary(block), kv_cache_.get(), device_, compute_};
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

  static at::Tensor half_of(const TensorMath& math, const model::BlockSpec& block, BlockHalf half,
                            const at::Tensor& hidden_TH) {
    if (half == BlockHalf::kAttention) {
      const Index length = hidden_TH.size(0);
      return math.output(model::SiteKind::kAttnOut,
                         math.attention(math.attn_norm(hidden_TH), {&length, 1}));
    }
    const at::Tensor normed_TH = math.mlp_norm(hidden_TH);
    if (!block.experts.empty()) return math.experts(normed_TH);
    return math.output(model::SiteKind::kMlpOut,
                       math.gated(model::SiteKind::kMlpIn, -1, normed_TH));
  }

  model::ModelConfig config_;
  at::Device device_;
  at::ScalarType compute_;
  bool host_views_;
  std::shared_ptr<const KvCacheRounding> kv_cache_;
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
