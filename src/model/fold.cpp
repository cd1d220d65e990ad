#include "calque/model/fold.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "calque/core/error.h"

namespace calque::model {
namespace {

[[noreturn]] void refuse(const FoldSpec& fold, const std::string& what) {
  throw Error(ErrorKind::kInternal, "", fmt::format("fold into {}: {}", fold.absorber.name, what));
}

// The divisor of each of the absorber's `rows`; 1 for rows that make no channel of the fold.
std::vector<float> divisors_of(const FoldSpec& fold, std::span<const float> scales_K, Index rows) {
  std::vector<float> divisors(static_cast<std::size_t>(rows), 0.0f);
  for (Index k = 0; k < static_cast<Index>(scales_K.size()); ++k) {
    const float scale = scales_K[static_cast<std::size_t>(k)];
    const Index source = fold.source_of(k);
    if (!(scale > 0) || !std::isfinite(scale))
      refuse(fold, fmt::format("the scale of channel {} is {}, not positive and finite", k, scale));
    if (source >= rows)
      refuse(fold, fmt::format("channel {} is made by row {} of {}", k, source, rows));
    float& divisor = divisors[static_cast<std::size_t>(source)];
    if (divisor != 0 && divisor != scale)
      refuse(fold, fmt::format("channel {} has scale {}, another of row {} has {}", k, scale,
                               source, divisor));
    divisor = scale;
  }
  for (float& divisor : divisors)
    if (divisor == 0) divisor = 1;
  return divisors;
}

void check_consumers(const FoldSpec& fold, std::span<const float> scales_K,
                     const BlockWeights& weights) {
  for (const TensorSpec& consumer : fold.consumers) {
    const Index columns = weights.at(consumer.name).cols();
    if (columns != static_cast<Index>(scales_K.size()))
      refuse(fold, fmt::format("{} scales for the {} columns of {}", scales_K.size(), columns,
                               consumer.name));
  }
}

void divide_vector(const std::vector<float>& divisors, MatrixView<float> values_1N) {
  for (Index i = 0; i < values_1N.cols(); ++i)
    values_1N(0, i) /= divisors[static_cast<std::size_t>(i)];
}

void multiply_columns(std::span<const float> scales_K, MatrixView<float> weight_NK) {
  for (Index n = 0; n < weight_NK.rows(); ++n) {
    float* const row = weight_NK.row(n);
    for (Index k = 0; k < weight_NK.cols(); ++k) row[k] *= scales_K[static_cast<std::size_t>(k)];
  }
}

}  // namespace

void divide_absorber(const FoldSpec& fold, std::span<const float> scales_K,
                     MatrixView<float> absorber) {
  if (fold.kind == FoldSpec::Absorber::kRows) {
    const std::vector<float> divisors = divisors_of(fold, scales_K, absorber.rows());
    for (Index n = 0; n < absorber.rows(); ++n)
      for (Index k = 0; k < absorber.cols(); ++k)
        absorber(n, k) /= divisors[static_cast<std::size_t>(n)];
    return;
  }
  const std::vector<float> divisors = divisors_of(fold, scales_K, absorber.cols());
  if (fold.kind == FoldSpec::Absorber::kNorm) return divide_vector(divisors, absorber);
  for (Index i = 0; i < absorber.cols(); ++i)
    absorber(0, i) = (1.0f + absorber(0, i)) / divisors[static_cast<std::size_t>(i)] - 1.0f;
}

void divide_bias(const FoldSpec& fold, std::span<const float> scales_K, MatrixView<float> bias_1N) {
  divide_vector(divisors_of(fold, scales_K, bias_1N.cols()), bias_1N);
}

void apply_fold(const FoldSpec& fold, std::span<const float> scales_K, BlockWeights& weights) {
  check_consumers(fold, scales_K, weights);
  divide_absorber(fold, scales_K, weights.at(fold.absorber.name));
  for (const TensorSpec& bias : fold.bias) divide_bias(fold, scales_K, weights.at(bias.name));
  for (const TensorSpec& consumer : fold.consumers)
    multiply_columns(scales_K, weights.at(consumer.name));
}

}  // namespace calque::model
