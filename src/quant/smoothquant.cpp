#include "calque/quant/smoothquant.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/error.h"
#include "calque/quant/methods.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

void expect_peaks(const std::vector<ChannelReader>& readers, std::size_t features) {
  for (const ChannelReader& reader : readers) {
    if (static_cast<std::size_t>(reader.weight_NK.cols()) != features)
      throw Error(ErrorKind::kInternal, "",
                  fmt::format("SmoothQuant needs the peaks of {} inputs; given are {}",
                              reader.weight_NK.cols(), features));
    expect_finite(reader.weight_NK);
  }
}

std::vector<float> largest_weights(const std::vector<ChannelReader>& readers,
                                   std::size_t features) {
  std::vector<float> largest_K(features, 0.0f);
  for (const ChannelReader& reader : readers)
    for (Index n = 0; n < reader.weight_NK.rows(); ++n)
      for (std::size_t k = 0; k < features; ++k)
        largest_K[k] = std::max(largest_K[k], std::abs(reader.weight_NK.row(n)[k]));
  return largest_K;
}

std::vector<float> choose(const std::vector<ChannelReader>& readers, const InputStats& stats,
                          const TransformOptions& options, const ScaleSnap& snap, const ScaleLoss&,
                          const Exec&) {
  std::vector<float> scales_K = smooth_scales(readers, stats, options.smoothquant);
  if (snap) snap(scales_K);
  return scales_K;
}

}  // namespace

extern const Transform kSmoothQuant = {
    .name = "smoothquant",
    .title = "SmoothQuant channel scales",
    .summary =
        "move the size of large input channels into the weights, for schemes that round "
        "the inputs, too",
    .needs_text = true,
    .eases_rounded_inputs = true,
    .choose_scales = choose,
};

std::vector<float> smooth_scales(const std::vector<ChannelReader>& readers, const InputStats& stats,
                                 const SmoothQuantOptions& options) {
  const std::size_t features = stats.largest_K.size();
  expect_peaks(readers, features);
  const std::vector<float> weights_K = largest_weights(readers, features);
  std::vector<double> logs_K(features, 0.0);
  double sum = 0, count = 0;
  const auto is_used = [&](std::size_t k) { return stats.largest_K[k] > 0 && weights_K[k] > 0; };
  for (std::size_t k = 0; k < features; ++k) {
    if (!is_used(k)) continue;
    logs_K[k] = options.alpha * std::log(static_cast<double>(stats.largest_K[k])) -
                (1 - options.alpha) * std::log(static_cast<double>(weights_K[k]));
    sum += logs_K[k];
    count += 1;
  }
  std::vector<float> scales_K(features, 1.0f);
  for (std::size_t k = 0; k < features; ++k)
    if (is_used(k)) scales_K[k] = static_cast<float>(std::exp(logs_K[k] - sum / count));
  return scales_K;
}

}  // namespace calque::quant
