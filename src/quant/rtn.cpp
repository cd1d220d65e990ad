#include <memory>
#include <utility>

#include "calque/kernels/round_to_grid.h"
#include "calque/quant/methods.h"
#include "quant/block_rounding.h"
#include "quant/column_order.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// What depends on the site only.
struct Site {
  std::vector<float> importance_K;  // empty without statistics
  Matrix<float> hessian_KK;         // both triangles; only for kBlockSearch
};

Site prepare(const calib::InputStats& stats, const RtnOptions& options) {
  Site site = {channel_importance(stats, kUnseenChannel), {}};
  if (options.scale_rule != ScaleRule::kBlockSearch || site.importance_K.empty()) return site;
  site.hessian_KK = symmetric_mean(stats);
  double trace = 0;
  for (Index k = 0; k < stats.features(); ++k) trace += static_cast<double>(site.hessian_KK(k, k));
  const double damping = kUnseenChannel * trace / static_cast<double>(stats.features());
  for (Index k = 0; k < stats.features(); ++k) site.hessian_KK(k, k) += static_cast<float>(damping);
  return site;
}

// On consecutive groups.
QuantizedMatrix round_columns(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec) {
  QuantizedMatrix q = start_on_grid(weight_NK, grid, rule, guide, exec);
  round_to_grid(weight_NK, q.scales_NG, q.offsets_NG,
                consecutive_groups(q.in_features(), grid.group_size_for(q.in_features())),
                grid.max_code(), q.codes_NK, exec);
  return q;
}

// On groups formed by falling mean square of the inputs; consecutive ones without statistics.
QuantizedMatrix round_in_order(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                               const Site& site, const Exec& exec) {
  const Order order = site.importance_K.empty()
                          ? stored_order(static_cast<std::size_t>(weight_NK.cols()))
                          : falling_order(site.importance_K);
  const std::vector<float> importance_K = in_order(site.importance_K, order);
  Matrix<float> hessian_KK;
  if (!site.hessian_KK.empty()) hessian_KK = square_in_order(site.hessian_KK, order);
  QuantizedMatrix q = round_columns(columns_in_order(weight_NK, order), grid, rule,
                                    {importance_K, hessian_KK.view()}, exec);
  restore_order(q, order);
  return q;
}

Rounded round_rtn(const Matrix<float>& weight_NK, const Grid& grid, const RtnOptions& options,
                  const Site& site, const calib::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  Rounded rounded;
  rounded.report.method = "rtn";
  rounded.matrix = grid.desc_act ? round_in_order(weight_NK, grid, options.scale_rule, site, exec)
                                 : round_columns(weight_NK, grid, options.scale_rule,
                                                 {site.importance_K, site.hessian_KK.view()}, exec);
  measure_error(weight_NK, rounded.matrix, stats, exec, rounded.report);
  return rounded;
}

}  // namespace

Rounder make_rtn(const RtnOptions& options) {
  return [options](const calib::InputStats& stats, const Exec& exec) -> SiteRounder {
    const auto site = std::make_shared<const Site>(prepare(stats, options));
    return [options, site, &stats, exec](Matrix<float> weight_NK, const Grid& grid) {
      if (grid.block) return round_to_blocks(weight_NK, grid, stats, exec);
      return round_rtn(weight_NK, grid, options, *site, stats, exec);
    };
  };
}

}  // namespace calque::quant
