#include "calque/forward/block_runner.h"

#include <torch/csrc/api/include/torch/version.h>

#include "forward/cpu/block_pass.h"
#include "forward/cpu/head.h"
#include "forward/torch/plugin.h"
#include "forward/cpu/sequences.h"
#include "forward/torch/tensor_runner.h"
#include "forward/torch/tensor_stream.h"
#include "forward/cpu/token_ids.h"

namespace calque::forward {
namespace {

BlockHalf half_of(model::SiteKind kind) {
  return kind == model::SiteKind::kAttnIn || kind == model::SiteKind::kAttnOut ? BlockHalf::kAttention
                                                                 : BlockHalf::kMlp;
}

class TorchBlockRunner : public BlockRunner {
 public:
  TorchBlockRunner(const model::ModelConfig& config, const RunnerOptions& options)
      : config_(config), options_(options) {
    make_thread_pool();
    if (options_.scratch == nullptr)
      options_.scratch = std::make_shared<io::ScratchSpace>(0, std::filesystem::path());
  }

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    auto hidden = std::make_unique<TorchHiddenStates>(config_, embedding_VH.cols(), lengths_B,
                                                      *options_.scratch);
    const auto scale = static_cast<float>(config_.embedding_scale);
    parallel_for(hidden->sequences(), options_.threads, [&](Index b) {
      const MatrixView<float> rows_TH = hidden->sequence_TH(b);
      for (Index s = 0; s < rows_TH.rows(); ++s) {
        const float* const row = embedding_VH.row(ids_BS(b, s));
        for (Index i = 0; i < rows_TH.cols(); ++i) rows_TH(s, i) = scale * row[i];
      }
      hidden->release(b);
    });
    return hidden;
  }

  void run_block(const model::BlockSpec& block, model::BlockWeights& weights, HiddenStates& hidden,
                 BlockObserver* observer) override {
    auto& states = dynamic_cast<TorchHiddenStates&>(hidden);
    translate_errors([&] {
      if (options_.dtype == ComputeDType::kBFloat16)
        run_block_in<BFloat16>(block, weights, states, observer);
      else
        run_block_in<float>(block, weights, states, observer);
    });
  }

  Matrix<float> half_output(const model::BlockSpec& block, const model::BlockWeights& weights,
                            const HiddenStates& hidden, BlockHalf half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const TorchHiddenStates&>(hidden);
    Matrix<float> output_TH;
    translate_errors([&] {
      output_TH = options_.dtype == ComputeDType::kBFloat16
                      ? half_output_in<BFloat16>(block, weights, states, half, sequence)
                      : half_output_in<float>(block, weights, states, half, sequence);
    });
    return output_TH;
  }

  void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const override {
    const auto& states = dynamic_cast<const TorchHiddenStates&>(hidden);
    for (Index b = 0; b < states.sequences(); ++b) {
      const MatrixView<const float> rows_TH = states.sequence_TH(b);
      sink(std::as_bytes(std::span(rows_TH.data(), static_cast<std::size_t>(rows_TH.size()))));
      states.release(b);
    }
  }

  std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                            const io::ByteSource& source) override {
    auto states = std::make_unique<TorchHiddenStates>(config_, width, lengths_B, *options_.scratch);
    for (Index b = 0; b < states->sequences(); ++b) {
      const MatrixView<float> rows_TH = states->sequence_TH(b);
      source(std::as_writable_bytes(
          std::span(rows_TH.data(), static_cast<std::size_t>(rows_TH.size()))));
      states->release(b);
    }
    return states;
  }

  std::unique_ptr<Head> make_head(MatrixView<const float> final_norm_1H,
                                  MatrixView<const float> head_VH) override {
    std::unique_ptr<Head> head;
    translate_errors([&] {
      if (options_.dtype == ComputeDType::kBFloat16)
        head = std::make_unique<TorchHead<BFloat16>>(config_, final_norm_1H, head_VH);
      else
        head = std::make_unique<TorchHead<float>>(config_, final_norm_1H, head_VH);
    });
    return head;
  }

 private:
  template <typename T>
  Matrix<float> half_output_in(const model::BlockSpec& block, const model::BlockWeights& weights,
                               const TorchHiddenStates& states, BlockHalf half,
                               Index sequence) const {
    const OneThread guard;
    BlockMath<T> math(block, weights, config_, states.rotary(block), options_.kv_cache.get());
    for (const model::SiteSpec& site : block.sites)
      if (half_of(site.kind) == half) math.prepare(site);
    const MatrixView<const float> hidden_TH = states.sequence_TH(sequence);
    Matrix<float> output_TH(hidden_TH.rows(), hidden_TH.cols());
    math.add_half(half, hidden_TH, output_TH);
    states.release(sequence);
    return output_TH;
  }

  template <typename T>
  void run_block_in(const model::BlockSpec& block, model::BlockWeights& weights, TorchHiddenStates& states,
                    BlockObserver* observer) {
    BlockPass<T> pass(block, weights, config_, options_, states);
    if (observer == nullptr)
      pass.run();
    else
      pass.run_staged(*observer);
  }

  model::ModelConfig config_;
  RunnerOptions options_;
};

}  // namespace

extern "C" BlockRunner* calque_make_torch_runner(const model::ModelConfig& config,
                                                 const RunnerOptions& options) {
  if (options.device != "cpu") return make_tensor_runner(config, options).release();
  return new TorchBlockRunner(config, options);
}

extern "C" int calque_count_torch_gpus() { return torch_gpus(); }

extern "C" const char* calque_torch_interface() { return CALQUE_RUNNER_INTERFACE; }

extern "C" const char* calque_describe_torch() { return "LibTorch " TORCH_VERSION; }

}  // namespace calque::forward
