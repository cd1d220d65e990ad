#include <memory>
#include <span>
#include <utility>

#include "calque/core/error.h"
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

// Rows of a matrix and what belongs to its columns, all in the same order of columns; groups are
// consecutive in it.
struct Task {
  MatrixView<const float> weight_NK;
  ScaleGuide guide;
  const Order& order;  // in which the sweep visits the columns
};

// Codes of `q` by the sweep; returns tr(E H E^T).
double sweep(const Task& task, const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  const auto groups = consecutive_groups(q.in_features(), q.grid.group_size_for(q.in_features()));
  std::vector<std::int32_t> ordered_groups_K;
  for (const Index k : task.order) ordered_groups_K.push_back(groups[static_cast<std::size_t>(k)]);
  Matrix<float> ordered_NK = columns_in_order(task.weight_NK, task.order);
  Matrix<std::uint8_t> codes_NK(q.out_features(), q.in_features());
  const double loss = gptq_sweep({.weight_NK = ordered_NK,
                                  .inverse_factor_KK = site.inverse_factor_KK,
                                  .grid = {.scales_NG = q.scales_NG,
                                           .offsets_NG = q.offsets_NG,
                                           .group_of_column_K = ordered_groups_K,
                                           .max_code = q.grid.max_code()},
                                  .codes_NK = codes_NK},
                                 exec);
  restore_order(codes_NK, task.order, q.codes_NK);
  return loss;
}

// Scales, sweep and refinement; returns tr(E H E^T).
double round_task(const Task& task, const Grid& grid, const RoundingOptions& options,
                  const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  q = start_on_grid(task.weight_NK, grid, options.scale_rule, task.guide, exec);
  const double loss = sweep(task, site, q, exec);
  if (options.refine_passes == 0) return loss;
  return refine_grid({.weight_NK = task.weight_NK,
                      .hessian_KK = task.guide.hessian_KK,
                      .group_size = grid.group_size_for(q.in_features()),
                      .options = {.offset_kind = grid.offset_kind,
                                  .precision = grid.precision,
                                  .max_code = grid.max_code(),
                                  .passes = options.refine_passes},
                      .scales_NG = q.scales_NG,
                      .offsets_NG = q.offsets_NG,
                      .codes_NK = q.codes_NK},
                     exec);
}

// Rows with their columns in the order of the Hessian's.
GptqSums round_rows(const Task& task, const Grid& grid, const RoundingOptions& options,
                    const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  GptqSums sums;
  sums.loss = round_task(task, grid, options, site, q, exec);
  sums.error = squared_error(task.weight_NK, q);
  sums.energy = measure_of(site)(task.weight_NK, exec);
  return sums;
}

// Activation-ordered groups: everything happens in visiting order, where groups are consecutive.
GptqSums round_rows_in_order(MatrixView<const float> weight_NK, const Grid& grid,
                             const RoundingOptions& options, const GptqSite& site,
                             std::span<const float> ordered_importance_K, QuantizedMatrix& q,
                             const Exec& exec) {
  const Matrix<float> ordered_NK = columns_in_order(weight_NK, site.order);
  const Order stored = stored_order(site.order.size());
  const Task task = {ordered_NK, {ordered_importance_K, site.hessian_KK.view()}, stored};
  const GptqSums sums = round_rows(task, grid, options, site, q, exec);
  restore_order(q, site.order);
  return sums;
}

// A strip of rows after another: each has the copies of its own weights that the steps need.
Rounded round_gptq(const Matrix<float>& weight_NK, const Grid& grid, const RoundingOptions& options,
                   const GptqSite& site, const quant::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  std::vector<float> importance_K = channel_importance(stats, site.damp_percent);
  if (grid.desc_act) importance_K = in_order(importance_K, site.order);
  const ScaleGuide guide = {importance_K, site.hessian_KK.view()};
  Rounded rounded;
  GptqSums sums;
  for_each_strip(
      weight_NK.rows(), weight_NK.cols(),
      [&](Index first, Index count) {
        const MatrixView<const float> rows_NK = weight_NK.view().rows(first, count);
        QuantizedMatrix part;
        sums += grid.desc_act
                    ? round_rows_in_order(rows_NK, grid, options, site, importance_K, part, exec)
                    : round_rows({rows_NK, guide, site.order}, grid, options, site, part, exec);
        put_rows(std::move(part), first, weight_NK.rows(), rounded.matrix);
      },
      options.strip_weights);
  rounded.report = gptq_report(sums, site);
  return rounded;
}

Rounded round_blocks(const Matrix<float>& weight_NK, const Grid& grid, const RoundingOptions& options,
                     const GptqSite& site, const quant::InputStats& stats, const Exec& exec) {
  Rounded rounded;
  GptqSums sums;
  for_each_strip(
      weight_NK.rows(), weight_NK.cols(),
      [&](Index first, Index count) {
        QuantizedMatrix part;
        sums += round_blocks_gptq(weight_NK.view().rows(first, count), grid, options, site, stats,
                                  part, exec);
        put_rows(std::move(part), first, weight_NK.rows(), rounded.matrix);
      },
      options.strip_weights);
  rounded.report = gptq_report(sums, site);
  return rounded;
}

// A mean square that somebody else measured weighs the format's own search, and is no Hessian.
Rounded round_uncalibrated_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                  const RoundingOptions& options, const quant::InputStats& stats,
                                  const Exec& exec) {
  if (!stats.mean_square_K().empty()) return round_to_blocks(weight_NK, grid, stats, {}, exec);
  return round_blocks_alone(weight_NK, grid, options, exec);
}

// Prepared for the first matrix that needs it: some block grids do without.
class GptqRounder {
 public:
  GptqRounder(quant::InputStats stats, const RoundingOptions& options, const Exec& exec)
      : stats_(std::move(stats)), options_(options), exec_(exec) {}

  Rounded operator()(Matrix<float> weight_NK, const Grid& grid) {
    if (grid.block && !has_block_structure(grid))
      return rtn_ ? rtn_(std::move(weight_NK), grid)
                  : round_to_blocks(weight_NK, grid, stats_, measure(), exec_);
    if (grid.block && !prepared_ && stats_.empty())
      return round_uncalibrated_blocks(weight_NK, grid, options_, stats_, exec_);
    if (!prepared_) prepare(grid);
    if (rtn_) return round_by_rtn(std::move(weight_NK), grid);
    if (grid.block) return round_blocks(weight_NK, grid, options_, site_, stats_, exec_);
    if (grid.desc_act != site_.hessian_in_order)
      throw Error(ErrorKind::kInternal, "", "one site, but two orders of groups");
    return round_gptq(weight_NK, grid, options_, site_, stats_, exec_);
  }

 private:
  void prepare(const Grid& grid) {
    prepared_ = true;
    site_ = prepare_gptq(stats_, grid.desc_act, options_, exec_);
    if (!site_.failure.empty())
      rtn_ = make_rtn({.scale_rule = options_.scale_rule})(std::move(stats_), exec_);
  }

  Rounded round_by_rtn(Matrix<float> weight_NK, const Grid& grid) const {
    Rounded rounded = rtn_(std::move(weight_NK), grid);
    rounded.report.fallback_reason = site_.failure;
    rounded.report.dead_columns = site_.dead_columns;
    return rounded;
  }

  ErrorMeasure measure() const {
    return site_.hessian_KK.empty() ? measure_of(stats_) : measure_of(site_);
  }

  quant::InputStats stats_;  // without the Gram matrix once the site is prepared
  RoundingOptions options_;
  Exec exec_;
  bool prepared_ = false;
  GptqSite site_;
  SiteRounder rtn_;  // where there is a failure
};

// Those of kRtn, which is the fallback, and its own.
std::vector<Operation> operations(const RoundingOptions& options, const PlannedRounding& planned) {
  std::vector<Operation> called = kRtn.operations(options, planned);
  const bool block = planned.grid.block.has_value();
  if (!takes_feedback(planned.grid) || (!block && !planned.calibrated)) return called;
  if (planned.calibrated)
    called.insert(called.end(), {Operation::kInverseCholesky, Operation::kGptqSweep});
  if (!block) called.push_back(Operation::kScaleSearch);
  if (options.refine_passes > 0)
    called.push_back(block ? Operation::kRefineBlocks : Operation::kRefineGrid);
  return called;
}

}  // namespace

const Rounding kGptq = {
    .name = "gptq",
    .title = "GPTQ",
    .summary = "round column by column and move each column's error onto the next",
    .needs_text = true,
    .feeds_back = true,
    .make = make_gptq,
    .operations = operations,
};

bool takes_feedback(const Grid& grid) { return !grid.block || has_block_structure(grid); }

Rounder make_gptq(const RoundingOptions& options) {
  return [options](quant::InputStats stats, const Exec& exec) -> SiteRounder {
    const auto rounder = std::make_shared<GptqRounder>(std::move(stats), options, exec);
    return [rounder](Matrix<float> weight_NK, const Grid& grid) {
      return (*rounder)(std::move(weight_NK), grid);
    };
  };
}

}  // namespace calque::quant
