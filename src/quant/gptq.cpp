#include <memory>
#include <mutex>
#include <utility>

#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/refine_grid.h"
#include "calque/quant/methods.h"
#include "quant/block_gptq.h"
#include "quant/block_rounding.h"
#include "quant/column_order.h"
#include "quant/gptq_site.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// One matrix and what belongs to its columns, all in the same order of columns; groups are
// consecutive in it.
struct Task {
  MatrixView<const float> weight_NK;
  ScaleGuide guide;
  Order order;  // in which the sweep visits the columns
};

// Codes of `q` by the sweep; returns tr(E H E^T).
double sweep(const Task& task, const GptqSite& site, Index block_size, QuantizedMatrix& q,
             const Exec& exec) {
  const auto groups = consecutive_groups(q.in_features(), q.grid.group_size_for(q.in_features()));
  std::vector<std::int32_t> ordered_groups_K;
  for (const Index k : task.order) ordered_groups_K.push_back(groups[static_cast<std::size_t>(k)]);
  Matrix<float> ordered_NK = columns_in_order(task.weight_NK, task.order);
  Matrix<std::uint8_t> codes_NK(q.out_features(), q.in_features());
  const double loss = gptq_sweep(ordered_NK, site.inverse_factor_KK, q.scales_NG, q.offsets_NG,
                                 ordered_groups_K, q.grid.max_code(), block_size, codes_NK, exec);
  restore_order(codes_NK, task.order, q.codes_NK);
  return loss;
}

// Scales, sweep and refinement; returns tr(E H E^T).
double round_task(const Task& task, const Grid& grid, const GptqOptions& options,
                  const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  q = start_on_grid(task.weight_NK, grid, options.scale_rule, task.guide, exec);
  const double loss = sweep(task, site, options.block_size, q, exec);
  if (options.refine_passes == 0) return loss;
  const RefineOptions refine = {.offset_kind = grid.offset_kind,
                                .precision = grid.precision,
                                .max_code = grid.max_code(),
                                .passes = options.refine_passes};
  return refine_grid(task.weight_NK, task.guide.hessian_KK, grid.group_size_for(q.in_features()),
                     refine, q.scales_NG, q.offsets_NG, q.codes_NK, exec);
}

// Activation-ordered groups: everything happens in visiting order, where groups are consecutive.
double round_in_order(const Matrix<float>& weight_NK, const Grid& grid, const GptqOptions& options,
                      const GptqSite& site, const std::vector<float>& importance_K,
                      QuantizedMatrix& q, const Exec& exec) {
  const Matrix<float> ordered_NK = columns_in_order(weight_NK, site.order);
  const std::vector<float> ordered_importance_K = in_order(importance_K, site.order);
  Matrix<float> hessian_KK;
  if (!site.hessian_KK.empty()) hessian_KK = square_in_order(site.hessian_KK, site.order);
  const Task task = {.weight_NK = ordered_NK,
                     .guide = {ordered_importance_K, hessian_KK.view()},
                     .order = stored_order(site.order.size())};
  const double loss = round_task(task, grid, options, site, q, exec);
  restore_order(q, site.order);
  return loss;
}

Rounded round_gptq(const Matrix<float>& weight_NK, const Grid& grid, const GptqOptions& options,
                   const GptqSite& site, const calib::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  Rounded rounded;
  QuantizedMatrix& q = rounded.matrix;
  const std::vector<float> importance_K = channel_importance(stats, site.damp_percent);
  const double loss =
      grid.desc_act ? round_in_order(weight_NK, grid, options, site, importance_K, q, exec)
                    : round_task({weight_NK, {importance_K, site.hessian_KK.view()}, site.order},
                                 grid, options, site, q, exec);
  rounded.report = gptq_report(weight_NK, q, loss, site, stats, exec);
  return rounded;
}

SiteRounder rtn_because(const GptqSite& site, const GptqOptions& options,
                        const calib::InputStats& stats, const Exec& exec) {
  SiteRounder rtn = make_rtn({.scale_rule = options.scale_rule})(stats, exec);
  return [rtn, reason = site.failure, dead = site.dead_columns](Matrix<float> weight_NK,
                                                                const Grid& grid) {
    Rounded rounded = rtn(std::move(weight_NK), grid);
    rounded.report.fallback_reason = reason;
    rounded.report.dead_columns = dead;
    return rounded;
  };
}

SiteRounder make_site_rounder(const GptqOptions& options, const calib::InputStats& stats,
                              const Exec& exec) {
  const auto site = std::make_shared<const GptqSite>(prepare_gptq(stats, options, exec));
  if (!site->failure.empty()) return rtn_because(*site, options, stats, exec);
  return [options, site, &stats, exec](Matrix<float> weight_NK, const Grid& grid) {
    if (grid.block) return round_blocks_gptq(weight_NK, grid, options, *site, stats, exec);
    return round_gptq(weight_NK, grid, options, *site, stats, exec);
  };
}

// Factorises for the first matrix that needs it: some block grids do without.
struct LazyRounder {
  std::once_flag once;
  SiteRounder rounder;
};

// A mean square that somebody else measured weighs the format's own search, and is no Hessian.
Rounded round_uncalibrated_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                  const GptqOptions& options, const calib::InputStats& stats,
                                  const Exec& exec) {
  if (!stats.mean_square_K().empty()) return round_to_blocks(weight_NK, grid, stats, exec);
  return round_blocks_alone(weight_NK, grid, options, stats, exec);
}

}  // namespace

Rounder make_gptq(const GptqOptions& options) {
  return [options](const calib::InputStats& stats, const Exec& exec) -> SiteRounder {
    return [options, lazy = std::make_shared<LazyRounder>(), &stats, exec](Matrix<float> weight_NK,
                                                                           const Grid& grid) {
      if (grid.block && !has_block_structure(grid))
        return round_to_blocks(weight_NK, grid, stats, exec);
      if (grid.block && stats.empty())
        return round_uncalibrated_blocks(weight_NK, grid, options, stats, exec);
      std::call_once(lazy->once, [&] { lazy->rounder = make_site_rounder(options, stats, exec); });
      return lazy->rounder(std::move(weight_NK), grid);
    };
  };
}

}  // namespace calque::quant
