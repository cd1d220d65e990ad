#include "calque/quant/awq.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include "calque/core/error.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/quant/methods.h"
#include "quant/weights.h"

namespace calque::quant {

// ---- Candidates

namespace {

// For one group of a row: sums_K[k] += |w| / (largest |w| of the group + 1e-6).
void add_relative_magnitudes(const float* weights, Index count, double* sums) {
  float largest = 0;
  for (Index k = 0; k < count; ++k) {
    const float magnitude = std::abs(weights[k]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float inverse = 1.0f / (largest + 1e-6f);
  for (Index k = 0; k < count; ++k) sums[k] += std::abs(weights[k]) * inverse;
}

std::vector<double> weight_means(const std::vector<ChannelReader>& readers, Index features) {
  std::vector<double> means_K(static_cast<std::size_t>(features), 0.0);
  Index rows = 0;
  for (const ChannelReader& reader : readers) {
    const Index group_size = reader.grid.group_size_for(features);
    for (Index n = 0; n < reader.weight_NK.rows(); ++n)
      for (Index begin = 0; begin < features; begin += group_size)
        add_relative_magnitudes(reader.weight_NK.row(n) + begin, group_size,
                                means_K.data() + begin);
    rows += reader.weight_NK.rows();
  }
  for (double& mean : means_K) mean /= static_cast<double>(std::max<Index>(rows, 1));
  return means_K;
}

// Error(kInternal) unless all readers take the input of `stats` and their grids divide it.
void expect_readers(const std::vector<ChannelReader>& readers, const quant::InputStats& stats) {
  if (stats.empty() || readers.empty())
    throw Error(ErrorKind::kInternal, "",
                fmt::format("channel scales need statistics and readers of the input; given are "
                            "{} tokens and {} readers",
                            stats.tokens, readers.size()));
  for (const ChannelReader& reader : readers) {
    if (reader.weight_NK.cols() != stats.features())
      throw Error(ErrorKind::kInternal, "",
                  fmt::format("a linear of {} inputs cannot read an input of {} features",
                              reader.weight_NK.cols(), stats.features()));
    expect_fits(reader.weight_NK, reader.grid);
    expect_finite(reader.weight_NK);
  }
}

// AWQ's one-parameter family of channel scales:
//   s = max(x^r / (w^(1 - r) + 1e-4), 1e-4) / sqrt(max s * min s)
// with x the mean magnitude of the inputs and w the mean over all rows of all readers of
// |weight| / (largest |weight| of its group + 1e-6).
class ScaleFamily {
 public:
  ScaleFamily(const std::vector<ChannelReader>& readers, const quant::InputStats& stats);

  std::vector<float> scales(double ratio) const;

 private:
  std::vector<double> input_mean_K_;   // x; 0: calibration has not seen the channel
  std::vector<double> weight_mean_K_;  // w
};

ScaleFamily::ScaleFamily(const std::vector<ChannelReader>& readers, const quant::InputStats& stats)
    : input_mean_K_(stats.magnitude_K), weight_mean_K_(weight_means(readers, stats.features())) {
  for (double& mean : input_mean_K_) mean /= static_cast<double>(stats.tokens);
}

std::vector<float> ScaleFamily::scales(double ratio) const {
  std::vector<double> proposed_K(input_mean_K_.size(), 1.0);
  for (std::size_t k = 0; k < proposed_K.size(); ++k) {
    if (input_mean_K_[k] == 0) continue;
    const double weight = std::pow(weight_mean_K_[k], 1.0 - ratio) + 1e-4;
    proposed_K[k] = std::max(std::pow(input_mean_K_[k], ratio) / weight, 1e-4);
  }
  const auto [lowest, highest] = std::minmax_element(proposed_K.begin(), proposed_K.end());
  const double middle = std::sqrt(*lowest * *highest);
  std::vector<float> scales_K;
  for (const double proposed : proposed_K) {
    const float scale = static_cast<float>(proposed / middle);
    scales_K.push_back(std::isfinite(scale) && scale > 0 ? scale : 1.0f);
  }
  return scales_K;
}

// ---- Search

Matrix<float> scaled(MatrixView<const float> weight_NK, std::span<const float> scales_K) {
  Matrix<float> copy = Matrix<float>::copy_of(weight_NK);
  multiply_columns(copy, scales_K);
  return copy;
}

// Importance of the scaled channels, for trial roundings whose rule uses it.
std::vector<float> scaled_importance(const std::vector<float>& importance_K,
                                     std::span<const float> scales_K) {
  std::vector<float> scaled_K = importance_K;
  for (std::size_t k = 0; k < scaled_K.size(); ++k) scaled_K[k] /= scales_K[k] * scales_K[k];
  return scaled_K;
}

class Trials {
 public:
  Trials(const std::vector<ChannelReader>& readers, const quant::InputStats& stats,
         const AwqOptions& options, const Exec& exec)
      : readers_(readers),
        stats_(stats),
        options_(options),
        exec_(exec),
        importance_K_(channel_importance(stats, kUnseenChannel)) {}

  // Q(W s) / s. Treats groups of activation-ordered grids as consecutive.
  Matrix<float> rounded(MatrixView<const float> weight_NK, const Grid& grid,
                        std::span<const float> scales_K) const {
    const Matrix<float> scaled_NK = scaled(weight_NK, scales_K);
    const std::vector<float> importance_K = scaled_importance(importance_K_, scales_K);
    QuantizedMatrix q =
        start_on_grid(scaled_NK, grid, options_.scale_rule, {.importance_K = importance_K}, exec_);
    const auto groups_K =
        consecutive_groups(weight_NK.cols(), grid.group_size_for(weight_NK.cols()));
    round_to_grid(scaled_NK, view_of(q, groups_K), q.groups().codes_NK, exec_);
    Matrix<float> values_NK = dequantize(q);
    divide_columns(values_NK, scales_K);
    return values_NK;
  }

  // tr(E G E^T), estimated from the sampled rows, which stand for all rows of their reader.
  double gram_loss_of(std::span<const float> scales_K) {
    if (samples_.empty()) take_samples();
    double total = 0;
    for (std::size_t i = 0; i < readers_.size(); ++i) {
      Matrix<float> error_SK = rounded(samples_[i], readers_[i].grid, scales_K);
      subtract(samples_[i], error_SK);
      const double rows_a_sample = static_cast<double>(readers_[i].weight_NK.rows()) /
                                   static_cast<double>(samples_[i].rows());
      total += rows_a_sample * gram_energy(error_SK, stats_.gram_KK, exec_);
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
    for (const ChannelReader& reader : readers_) {
      const MatrixView<const float> weight_NK = reader.weight_NK;
      const Index count = std::min(weight_NK.rows(), std::max<Index>(options_.sampled_rows, 1));
      auto sample_SK = Matrix<float>::uninitialized(count, weight_NK.cols());
      for (Index s = 0; s < count; ++s)
        std::copy_n(weight_NK.row(s * weight_NK.rows() / count), weight_NK.cols(),
                    sample_SK.row(s));
      samples_.push_back(std::move(sample_SK));
    }
  }

  const std::vector<ChannelReader>& readers_;
  const quant::InputStats& stats_;
  const AwqOptions& options_;
  const Exec& exec_;
  std::vector<float> importance_K_;
  std::vector<Matrix<float>> samples_;
};

constexpr Operation kOperations[] = {Operation::kScaleSearch, Operation::kRoundToGrid,
                                     Operation::kGramEnergy};

std::vector<float> choose(const std::vector<ChannelReader>& readers, const InputStats& stats,
                          const TransformOptions& options, const ScaleSnap& snap,
                          const ScaleLoss& loss, const Exec& exec) {
  return search_scales(readers, stats, options.awq, snap, loss, exec).scales_K;
}

}  // namespace

extern const Transform kAwq = {
    .name = "awq",
    .title = "AWQ channel scales",
    .summary = "scale channels so that those that matter are rounded more finely",
    .needs_text = true,
    .tries_candidates = true,
    .scale_rule = ScaleRule::kBlockSearch,
    .choose_scales = choose,
    .operations = kOperations,
};

AwqScales search_scales(const std::vector<ChannelReader>& readers, const quant::InputStats& stats,
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

// ---- Folding the scales into the model

namespace {

void expect_length(std::string_view what, std::size_t length, Index expected) {
  if (static_cast<Index>(length) == expected) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{} {} do not fit a matrix of {}", length, what, expected));
}

float held_by(float value, DType dtype) {
  std::byte bytes[8];
  convert_from_float(&value, dtype, 1, bytes);
  float held = 0;
  convert_to_float(bytes, dtype, 1, &held);
  return held;
}

// The number of `dtype` next to `value` (which is one and not zero), away from zero or towards it.
float neighbour(float value, DType dtype, int direction) {
  if (dtype == DType::kF16)
    return to_float(Half{static_cast<std::uint16_t>(to_half(value).bits + direction)});
  if (dtype == DType::kBF16)
    return to_float(BFloat16{static_cast<std::uint16_t>(to_bfloat16(value).bits + direction)});
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) +
                              static_cast<std::uint32_t>(direction));
}

// The factor that a norm's entry applies.
double factor_of(float norm, bool plus_one) {
  return plus_one ? 1.0 + static_cast<double>(norm) : static_cast<double>(norm);
}

}  // namespace

quant::InputStats rescaled(quant::InputStats stats, std::span<const float> scales_K) {
  if (stats.empty()) return stats;
  expect_length("scales", scales_K.size(), stats.features());
  for (Index i = 0; i < stats.features(); ++i) {
    const float row_scale = scales_K[static_cast<std::size_t>(i)];
    float* row = stats.gram_KK.row(i);
    for (Index j = i; j < stats.features(); ++j) row[j] = row[j] / row_scale / scales_K[j];
  }
  for (std::size_t k = 0; k < stats.magnitude_K.size(); ++k)
    stats.magnitude_K[k] /= static_cast<double>(scales_K[k]);
  for (std::size_t k = 0; k < stats.largest_K.size(); ++k) stats.largest_K[k] /= scales_K[k];
  return stats;
}

void multiply_columns(MatrixView<float> weight_NK, std::span<const float> scales_K) {
  expect_length("scales", scales_K.size(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n)
    for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK.row(n)[k] *= scales_K[k];
}

void divide_columns(MatrixView<float> weight_NK, std::span<const float> scales_K) {
  expect_length("scales", scales_K.size(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n)
    for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK.row(n)[k] /= scales_K[k];
}

float nearest_power_of_two(float value) {
  if (!(value > 0) || !std::isfinite(value)) return 1.0f;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // in [1/2, 1)
  constexpr float kRootOfHalf = 0x1.6a09e6p-1f;
  return std::ldexp(1.0f, fraction < kRootOfHalf ? exponent - 1 : exponent);
}

// Around norm / proposed, the numbers that the file can hold are one step apart; each gives one
// candidate scale.
float exact_norm_scale(float norm, bool plus_one, DType dtype, float proposed) {
  const double factor = factor_of(norm, plus_one);
  if (factor == 0 || !(proposed > 0) || !std::isfinite(proposed)) return 1.0f;
  const double wanted = factor / static_cast<double>(proposed) - (plus_one ? 1.0 : 0.0);
  const float nearest = held_by(static_cast<float>(wanted), dtype);
  float best = 1.0f;
  double distance = -1;
  const auto consider = [&](float stored) {
    const float scale = static_cast<float>(factor / factor_of(stored, plus_one));
    if (!std::isnormal(scale) || scale < 0) return;
    const double away = std::abs(static_cast<double>(scale) - static_cast<double>(proposed));
    if (distance >= 0 && away >= distance) return;
    best = scale;
    distance = away;
  };
  consider(nearest);
  if (nearest == 0) return best;
  for (const int direction : {-1, 1}) consider(neighbour(nearest, dtype, direction));
  return best;
}

namespace {

// The smallest and the largest scale of a row's groups, without those whose values are all 0.
std::pair<float, float> scale_range(const QuantizedMatrix& q,
                                    const std::vector<std::int32_t>& groups_K, Index n) {
  std::vector<char> used_G(static_cast<std::size_t>(q.groups().scales_NG.cols()));
  for (Index k = 0; k < q.in_features(); ++k) {
    const std::int32_t g = groups_K[static_cast<std::size_t>(k)];
    const float value = q.grid.number ? values_of(*q.grid.number)[q.groups().codes_NK(n, k)]
                                      : q.groups().scales_NG(n, g) * q.groups().codes_NK(n, k) +
                                            q.groups().offsets_NG(n, g);
    if (value != 0) used_G[static_cast<std::size_t>(g)] = 1;
  }
  std::pair range = {std::numeric_limits<float>::infinity(), 0.0f};
  for (Index g = 0; g < q.groups().scales_NG.cols(); ++g) {
    if (used_G[static_cast<std::size_t>(g)] == 0) continue;
    const float scale = std::abs(q.groups().scales_NG(n, g));
    range = {std::min(range.first, scale), std::max(range.second, scale)};
  }
  return range;
}

}  // namespace

void keep_in_range(const QuantizedMatrix& q, std::span<float> divisors_N) {
  expect_length("divisors", divisors_N.size(), q.out_features());
  const float smallest = rounded_scale(0.0f, q.grid.precision);
  const float largest = rounded_scale(std::numeric_limits<float>::max(), q.grid.precision);
  const Index K = q.in_features();
  const std::vector<std::int32_t> groups_K = q.groups().group_of_column_K.empty()
                                                 ? consecutive_groups(K, q.grid.group_size_for(K))
                                                 : q.groups().group_of_column_K;
  for (Index n = 0; n < q.out_features(); ++n) {
    float& divisor = divisors_N[static_cast<std::size_t>(n)];
    if (divisor == 1) continue;
    const auto [low, high] = scale_range(q, groups_K, n);
    while (divisor > 1 && low / divisor < smallest) divisor /= 2;
    while (divisor < 1 && high / divisor > largest) divisor *= 2;
  }
}

void divide_rows(QuantizedMatrix& q, std::span<const float> divisors_N) {
  expect_length("divisors", divisors_N.size(), q.out_features());
  if (q.grid.block)
    throw Error(ErrorKind::kInternal, "",
                fmt::format("rows of {} cannot be divided", q.grid.description()));
  const ScalePrecision precision = q.grid.precision;
  for (Index n = 0; n < q.out_features(); ++n) {
    const float divisor = divisors_N[static_cast<std::size_t>(n)];
    for (Index g = 0; g < q.groups().scales_NG.cols(); ++g) {
      float& scale = q.groups().scales_NG(n, g);
      float& offset = q.groups().offsets_NG(n, g);
      const float zero = scale == 0 ? 0.0f : std::rint(-offset / scale);
      scale = rounded_scale(scale / divisor, precision, q.groups().scale_divisor);
      offset = q.grid.offset_kind == OffsetKind::kMinimum
                   ? rounded_offset(offset / divisor, precision)
                   : -scale * zero;
    }
  }
}

Cost scale_trials_cost(const AwqOptions& options, Index N, Index K, Index seqlen) {
  const double trials = options.n_grid + 1;  // includes the identity
  const auto inputs = static_cast<double>(K);
  if (seqlen > 0) {
    const double tokens = static_cast<double>(kOutputSequences) * static_cast<double>(seqlen);
    const double weights = static_cast<double>(N) * inputs;
    return {.flops = trials * 4 * weights * tokens, .searched_weights = trials * weights};
  }
  const Index rows = std::min(N, options.sampled_rows);
  return {.flops = trials * gram_energy_cost(rows, K).flops,
          .searched_weights = trials * static_cast<double>(rows) * inputs};
}

}  // namespace calque::quant
