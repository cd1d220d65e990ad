#include "quant/awq_candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/error.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// sums_K[k] += |w| / (largest |w| of the group + 1e-6) of one group of a row.
void add_relative_magnitudes(const float* weights, Index count, double* sums) {
  float largest = 0;
  for (Index k = 0; k < count; ++k) {
    const float magnitude = std::abs(weights[k]);
    largest = magnitude > largest ? magnitude : largest;
  }
  const float inverse = 1.0f / (largest + 1e-6f);
  for (Index k = 0; k < count; ++k) sums[k] += std::abs(weights[k]) * inverse;
}

std::vector<double> weight_means(const std::vector<AwqReader>& readers, Index features) {
  std::vector<double> means_K(static_cast<std::size_t>(features), 0.0);
  Index rows = 0;
  for (const AwqReader& reader : readers) {
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

}  // namespace

void expect_readers(const std::vector<AwqReader>& readers, const quant::InputStats& stats) {
  if (stats.empty() || readers.empty())
    throw Error(ErrorKind::kInternal, "",
                fmt::format("channel scales need statistics and readers of the input; given are "
                            "{} tokens and {} readers",
                            stats.tokens, readers.size()));
  for (const AwqReader& reader : readers) {
    if (reader.weight_NK.cols() != stats.features())
      throw Error(ErrorKind::kInternal, "",
                  fmt::format("a linear of {} inputs cannot read an input of {} features",
                              reader.weight_NK.cols(), stats.features()));
    expect_fits(reader.weight_NK, reader.grid);
    expect_finite(reader.weight_NK);
  }
}

ScaleFamily::ScaleFamily(const std::vector<AwqReader>& readers, const quant::InputStats& stats)
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

}  // namespace calque::quant
