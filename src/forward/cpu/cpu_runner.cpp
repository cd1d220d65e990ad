#include "forward/cpu/cpu_runner.h"

#include "calque/core/openmp.h"
#include "calque/forward/token_rows.h"
#include "forward/cpu/block_pass.h"
#include "forward/cpu/head.h"
#include "forward/cpu/sequences.h"

namespace calque::forward {
namespace {

BlockHalf half_of(model::SiteKind kind) {
  return kind == model::SiteKind::kAttnIn || kind == model::SiteKind::kAttnOut
             ? BlockHalf::kAttention
             : BlockHalf::kMlp;
}

class CpuRunner : public BlockRunner {
 public:
  CpuRunner(const model::ModelConfig& config, const RunnerOptions& options)
      : config_(config), options_(options) {
    if (options_.scratch == nullptr)
      options_.scratch = std::make_shared<io::ScratchSpace>(0, std::filesystem::path());
  }

  std::unique_ptr<HiddenStates> embed(MatrixView<const std::int32_t> ids_BS,
                                      std::span<const Index> lengths_B,
                                      MatrixView<const float> embedding_VH) override {
    check_ids(ids_BS, lengths_B, embedding_VH.rows());
    auto hidden =
        std::make_unique<CpuStates>(config_, embedding_VH.cols(), lengths_B, *options_.scratch);
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
    auto& states = dynamic_cast<CpuStates&>(hidden);
    if (options_.dtype == ComputeDType::kBFloat16)
      run_block_in<BFloat16>(block, weights, states, observer);
    else
      run_block_in<float>(block, weights, states, observer);
  }

  Matrix<float> half_output(const model::BlockSpec& block, const model::BlockWeights& weights,
                            const HiddenStates& hidden, BlockHalf half,
                            Index sequence) const override {
    const auto& states = dynamic_cast<const CpuStates&>(hidden);
    return options_.dtype == ComputeDType::kBFloat16
               ? half_output_in<BFloat16>(block, weights, states, half, sequence)
               : half_output_in<float>(block, weights, states, half, sequence);
  }

  void save_states(const HiddenStates& hidden, const io::ByteSink& sink) const override {
    const auto& states = dynamic_cast<const CpuStates&>(hidden);
    for (Index b = 0; b < states.sequences(); ++b) {
      const MatrixView<const float> rows_TH = states.sequence_TH(b);
      sink(std::as_bytes(std::span(rows_TH.data(), static_cast<std::size_t>(rows_TH.size()))));
      states.release(b);
    }
  }

  std::unique_ptr<HiddenStates> load_states(std::span<const Index> lengths_B, Index width,
                                            const io::ByteSource& source) override {
    auto states = std::make_unique<CpuStates>(config_, width, lengths_B, *options_.scratch);
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
    if (options_.dtype == ComputeDType::kBFloat16)
      return std::make_unique<CpuHead<BFloat16>>(config_, final_norm_1H, head_VH);
    return std::make_unique<CpuHead<float>>(config_, final_norm_1H, head_VH);
  }

 private:
  template <typename T>
  Matrix<float> half_output_in(const model::BlockSpec& block, const model::BlockWeights& weights,
                               const CpuStates& states, BlockHalf half, Index sequence) const {
    const OneOpenMpThread guard;
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
  void run_block_in(const model::BlockSpec& block, model::BlockWeights& weights, CpuStates& states,
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

std::unique_ptr<BlockRunner> make_cpu_runner(const model::ModelConfig& config,
                                             const RunnerOptions& options) {
  return std::make_unique<CpuRunner>(config, options);
}

}  // namespace calque::forward
