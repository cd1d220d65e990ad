#include <utility>

#include "calque/kernels/round_to_grid.h"
#include "calque/quant/methods.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// Share of the mean that a channel keeps although calibration has not seen it.
constexpr double kUnseenChannel = 1e-4;

void measure(const Matrix<float>& weight_NK, const QuantizedMatrix& q,
             const calib::InputStats& stats, const Exec& exec, RoundingReport& report) {
  const Matrix<float> error_NK = difference(dequantize(q), weight_NK);
  if (stats.empty()) {
    const double energy = sum_of_squares(weight_NK);
    report.relative_error = energy > 0 ? sum_of_squares(error_NK) / energy : 0;
    return;
  }
  const double loss = gram_loss(error_NK, stats.gram_KK, exec);
  const double energy = gram_loss(weight_NK, stats.gram_KK, exec);
  report.loss = loss / static_cast<double>(stats.tokens);
  report.relative_error = energy > 0 ? loss / energy : 0;
}

Rounded round_rtn(const Matrix<float>& weight_NK, const Grid& grid, const RtnOptions& options,
                  const calib::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  Rounded rounded;
  rounded.report.method = "rtn";
  QuantizedMatrix& q = rounded.matrix;
  q = start_on_grid(weight_NK, grid, options.scale_rule, channel_importance(stats, kUnseenChannel),
                    exec);
  round_to_grid(weight_NK, q.scales_NG, q.offsets_NG,
                consecutive_groups(q.in_features(), grid.group_size_for(q.in_features())),
                grid.max_code(), q.codes_NK, exec);
  measure(weight_NK, q, stats, exec, rounded.report);
  return rounded;
}

}  // namespace

Rounder make_rtn(const RtnOptions& options) {
  return [options](const calib::InputStats& stats, const Exec& exec) -> SiteRounder {
    return [options, &stats, exec](Matrix<float> weight_NK, const Grid& grid) {
      return round_rtn(weight_NK, grid, options, stats, exec);
    };
  };
}

}  // namespace calque::quant
