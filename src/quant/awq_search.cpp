#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "calque/kernels/round_to_grid.h"
#include "calque/quant/awq.h"
#include "calque/quant/methods.h"
#include "quant/awq_candidates.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

Matrix<float> scaled(MatrixView<const float> weight_NK, std::span<const float> scales_K) {
  Matrix<float> copy = Matrix<float>::copy_of(weight_NK);
  multiply_columns(copy, scales_K);
  return copy;
}

// Importance of the channels for trial roundings whose rule listens to it: of the inputs divided by
// the scales.
std::vector<float> scaled_importance(const std::vector<float>& importance_K,
                                     std::span<const float> scales_K) {
  std::vector<float> scaled_K = importance_K;
  for (std::size_t k = 0; k < scaled_K.size(); ++k) scaled_K[k] /= scales_K[k] * scales_K[k];
  return scaled_K;
}

class Trials {
 public:
  Trials(const std::vector<AwqReader>& readers, const quant::InputStats& stats,
         const AwqOptions& options, const Exec& exec)
      : readers_(readers),
        stats_(stats),
        options_(options),
        exec_(exec),
        importance_K_(channel_importance(stats, kUnseenChannel)) {}

  // Q(W s) / s. Groups of activation-ordered grids are taken as consecutive here.
  Matrix<float> rounded(MatrixView<const float> weight_NK, const Grid& grid,
                        std::span<const float> scales_K) const {
    const Matrix<float> scaled_NK = scaled(weight_NK, scales_K);
    const std::vector<float> importance_K = scaled_importance(importance_K_, scales_K);
    QuantizedMatrix q =
        start_on_grid(scaled_NK, grid, options_.scale_rule, {.importance_K = importance_K}, exec_);
    const auto groups_K =
        consecutive_groups(weight_NK.cols(), grid.group_size_for(weight_NK.cols()));
    round_to_grid(scaled_NK,
                  {.scales_NG = q.scales_NG,
                   .offsets_NG = q.offsets_NG,
                   .group_of_column_K = groups_K,
                   .max_code = grid.max_code()},
                  q.codes_NK, exec_);
    Matrix<float> values_NK = dequantize(q);
    divide_columns(values_NK, scales_K);
    return values_NK;
  }

  // tr(E G E^T), estimated from the sampled rows: those of a reader stand for all of its rows.
  double gram_loss_of(std::span<const float> scales_K) {
    if (samples_.empty()) take_samples();
    double total = 0;
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      Matrix<float> error_SK = rounded(samples_[i], readers_[i].grid, scales_K);
      subtract(samples_[i], error_SK);
      const double rows_a_sample = static_cast<double>(readers_[i].weight_NK.rows()) /
                                   static_cast<double>(samples_[i].rows());
      total += rows_a_sample * gram_loss(error_SK, stats_.gram_KK, exec_);
    }
    return total;
  }

  double loss_of(std::span<const float> scales_K, const ScaleLoss& loss) {
    if (!loss) return gram_loss_of(scales_K);
    return loss([&](std::size_t reader) {
      return rounded(readers_[reader].weight_NK, readers_[reader].grid, scales_K);
    });
  }

 private:
  void take_samples() {
    for (const AwqReader& reader : readers_) {
      const MatrixView<const float> weight_NK = reader.weight_NK;
      const Index count = std::min(weight_NK.rows(), std::max<Index>(options_.sampled_rows, 1));
      auto sample_SK = Matrix<float>::uninitialized(count, weight_NK.cols());
      for (Index s = 0; s < count; ++s)
        std::copy_n(weight_NK.row(s * weight_NK.rows() / count), weight_NK.cols(),
                    sample_SK.row(s));
      samples_.push_back(std::move(sample_SK));
    }
  }

  const std::vector<AwqReader>& readers_;
  const quant::InputStats& stats_;
  const AwqOptions& options_;
  const Exec& exec_;
  std::vector<float> importance_K_;
  std::vector<Matrix<float>> samples_;
};

constexpr Operation kOperations[] = {Operation::kScaleSearch, Operation::kRoundToGrid,
                                     Operation::kGramEnergy};

}  // namespace

const Transform kAwq = {
    .name = "awq",
    .title = "AWQ channel scales",
    .summary = "scale channels so that those that matter are rounded more finely",
    .needs_text = true,
    .scale_rule = ScaleRule::kBlockSearch,
    .choose_scales = search_scales,
    .operations = kOperations,
};

AwqScales search_scales(const std::vector<AwqReader>& readers, const quant::InputStats& stats,
                        const AwqOptions& options, const ScaleSnap& snap, const ScaleLoss& loss,
                        const Exec& exec) {
  const auto features = static_cast<std::size_t>(stats.features());
  expect_readers(readers, stats);
  const ScaleFamily family(readers, stats);
  Trials trials(readers, stats, options, exec);
  AwqScales best;
  best.scales_K.assign(features, 1.0f);
  best.loss = best.identity_loss = trials.loss_of(best.scales_K, loss);
  const auto consider = [&](double ratio) {
    std::vector<float> scales_K = family.scales(ratio);
    if (snap) snap(scales_K);
    const double candidate = trials.loss_of(scales_K, loss);
    if (!(candidate < best.loss)) return;
    best.scales_K = std::move(scales_K);
    best.ratio = ratio;
    best.loss = candidate;
  };
  for (int i = 0; i < options.n_grid; ++i) consider(static_cast<double>(i) / options.n_grid);
  return best;
}

}  // namespace calque::quant
