#include "quant/gptq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/refine_blocks.h"
#include "calque/kernels/refine_grid.h"
#include "calque/kernels/round_vectors.h"
#include "calque/quant/methods.h"
#include "quant/gptq_blocks.h"
#include "quant/weights.h"

// GPTQ from top to bottom: the Hessian of a site and its factor, once; then for each of the site's
// matrices, one strip of rows after another: scales, the sweep over the columns, refinement; then
// the report. Code shared with other methods (scales, strips, column orders, errors) is in
// weights.h, the sweep's loop in kernels/cpu/gptq_sweep.cpp, GGUF blocks in gptq_blocks.cpp.
// src/quant/README.md has the formulas.

namespace calque::quant {

// ---- The Hessian: damped until it can be factored

namespace {

// Mean of the diagonal over inputs that were not always zero.
double mean_of_live(const std::vector<float>& diagonal_K) {
  const auto live = std::count_if(diagonal_K.begin(), diagonal_K.end(),
                                  [](float value) { return value != 0.0f; });
  const double total = std::accumulate(diagonal_K.begin(), diagonal_K.end(), 0.0);
  return live == 0 ? 0.0 : total / static_cast<double>(live);
}

// damp, damp + step, damp + 3 step, damp + 7 step, ..., at last 1.
std::vector<double> damping_ladder(const RoundingOptions& options) {
  std::vector<double> ladder = {options.damp_percent};
  for (double step = options.damp_auto_increment; step > 0 && ladder.back() < 1.0; step *= 2)
    ladder.push_back(std::min(1.0, ladder.back() + step));
  return ladder;
}

void set_diagonal(Matrix<float>& hessian_KK, const GptqSite& site,
                  const std::vector<float>& diagonal_K, double mean) {
  for (Index i = 0; i < hessian_KK.rows(); ++i) {
    const float value = diagonal_K[site.order[i]];
    // Without damping a dead input still needs a pivot; its value makes no difference.
    const double pivot = value == 0.0f && site.damping == 0.0 ? mean : value + site.damping;
    hessian_KK(i, i) = static_cast<float>(pivot);
  }
}

// The diagonal of H in stored order.
std::vector<double> damped_diagonal(const GptqSite& site, const std::vector<float>& diagonal_K) {
  std::vector<double> damped_K;
  for (const float value : diagonal_K) damped_K.push_back(value + site.damping);
  return damped_K;
}

void factor(GptqSite& site, const quant::InputStats& stats, const std::vector<float>& diagonal_K,
            double mean, const RoundingOptions& options, const Exec& exec) {
  const std::vector<double> ladder = damping_ladder(options);
  for (const double damp : ladder) {
    site.damp_percent = damp;
    site.damping = damp * mean;
    Matrix<float> hessian_KK =
        upper_in_order(stats.gram_KK, site.order, 1.0f / static_cast<float>(stats.tokens));
    set_diagonal(hessian_KK, site, diagonal_K, mean);
    std::optional<Matrix<float>> factor_KK = inverse_cholesky(std::move(hessian_KK), exec);
    if (!factor_KK) continue;
    site.inverse_factor_KK = std::move(*factor_KK);
    return;
  }
  site.failure = fmt::format(
      "the Hessian of {} inputs over {} tokens is not positive definite with damping {} to {} of "
      "its mean diagonal {:.3g} ({} attempts)",
      stats.features(), stats.tokens, ladder.front(), ladder.back(), mean, ladder.size());
}

}  // namespace

GptqSite factor_site(const quant::InputStats& stats, const RoundingOptions& options,
                     const Exec& exec) {
  GptqSite site;
  if (stats.empty()) {
    site.failure = "no calibration statistics";
    return site;
  }
  const std::vector<float> diagonal_K = stats.mean_square_K();
  const double mean = mean_of_live(diagonal_K);
  site.dead_columns = std::count(diagonal_K.begin(), diagonal_K.end(), 0.0f);
  if (!(mean > 0) || !std::isfinite(mean)) {
    site.failure =
        fmt::format("the mean square of the inputs over {} tokens is {}", stats.tokens, mean);
    return site;
  }
  site.order = options.act_order ? falling_order(diagonal_K) : stored_order(diagonal_K.size());
  factor(site, stats, diagonal_K, mean, options, exec);
  return site;
}

GptqSite prepare_gptq(quant::InputStats& stats, bool in_order, const RoundingOptions& options,
                      const Exec& exec) {
  fill_lower(stats.gram_KK);
  GptqSite site = factor_site(stats, options, exec);
  if (!site.failure.empty()) return site;
  const std::vector<float> diagonal_K = stats.mean_square_K();
  site.hessian_KK = stats.take_gram();
  make_hessian(site.hessian_KK, stats.tokens, damped_diagonal(site, diagonal_K));
  site.hessian_in_order = in_order;
  if (in_order) put_square_in_order(site.hessian_KK, site.order);
  return site;
}

void keep_runs(GptqSite& site, const RoundingOptions& options, const Exec& exec) {
  constexpr Index kRun = 8;
  const Index columns = site.hessian_KK.rows();
  std::vector<float> energy_E(static_cast<std::size_t>(columns / kRun), 0.0f);
  double mean = 0;
  for (Index k = 0; k < columns; ++k) {
    energy_E[static_cast<std::size_t>(k / kRun)] += site.hessian_KK(k, k);
    mean += site.hessian_KK(k, k) / static_cast<double>(columns);
  }
  site.order.clear();
  for (const Index run :
       options.act_order ? falling_order(energy_E) : stored_order(energy_E.size()))
    for (Index k = 0; k < kRun; ++k) site.order.push_back(run * kRun + k);
  site.keeps_runs = true;
  site.inverse_factor_KK = {};
  // The matrix could be factored in another order, so a little more damping than that needed will
  // do, if any: of the sweep alone, not of the loss.
  for (double more = 0; site.inverse_factor_KK.empty(); more = more == 0 ? 1e-4 * mean : 4 * more) {
    Matrix<float> hessian_KK = upper_in_order(site.hessian_KK, site.order, 1.0f);
    for (Index k = 0; k < columns; ++k) hessian_KK(k, k) += static_cast<float>(more);
    if (auto factor_KK = inverse_cholesky(std::move(hessian_KK), exec))
      site.inverse_factor_KK = std::move(*factor_KK);
  }
}

// ---- The report

ErrorMeasure measure_of(const GptqSite& site) {
  return {.matrix_KK = site.hessian_KK.view(), .scale = 1, .damping = site.damping};
}

void GptqSums::operator+=(const GptqSums& other) {
  loss += other.loss;
  error += other.error;
  energy += other.energy;
}

// tr(E G E^T) / tokens = tr(E H E^T) - damping |E|^2: no product with G needed.
RoundingReport gptq_report(const GptqSums& sums, const GptqSite& site) {
  RoundingReport report;
  report.method = kGptq.name;
  report.loss = std::max(0.0, sums.loss - site.damping * sums.error);
  report.relative_error = sums.energy > 0 ? report.loss / sums.energy : 0;
  report.damp_percent = site.damp_percent;
  report.dead_columns = site.dead_columns;
  return report;
}

// ---- One matrix: scales, the sweep over its columns, refinement

namespace {

// Rows of a matrix with the data of its columns, all in the same column order, in which groups are
// consecutive.
struct Task {
  MatrixView<const float> weight_NK;
  ScaleGuide guide;
  const Order& order;  // order in which the sweep visits the columns
};

// Computes the codes of `q` by the sweep; returns tr(E H E^T).
double sweep(const Task& task, const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  const auto groups = consecutive_groups(q.in_features(), q.grid.group_size_for(q.in_features()));
  std::vector<std::int32_t> ordered_groups_K;
  for (const Index k : task.order) ordered_groups_K.push_back(groups[static_cast<std::size_t>(k)]);
  Matrix<float> ordered_NK = columns_in_order(task.weight_NK, task.order);
  Matrix<std::uint8_t> codes_NK(q.out_features(), q.in_features());
  const double loss = gptq_sweep({.weight_NK = ordered_NK,
                                  .inverse_factor_KK = site.inverse_factor_KK,
                                  .grid = view_of(q, ordered_groups_K),
                                  .codes_NK = codes_NK},
                                 exec);
  restore_order(codes_NK, task.order, q.groups().codes_NK);
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
                                  .number = grid.number,
                                  .divisor = q.groups().scale_divisor,
                                  .moves_scales = grid.scale_rows == 1,
                                  .passes = options.refine_passes},
                      .scales_NG = q.groups().scales_NG,
                      .offsets_NG = q.groups().offsets_NG,
                      .codes_NK = q.groups().codes_NK},
                     exec);
}

// Rounds rows whose columns are in the Hessian's order.
GptqSums round_rows(const Task& task, const Grid& grid, const RoundingOptions& options,
                    const GptqSite& site, QuantizedMatrix& q, const Exec& exec) {
  GptqSums sums;
  sums.loss = round_task(task, grid, options, site, q, exec);
  sums.error = squared_error(task.weight_NK, q);
  sums.energy = measure_of(site)(task.weight_NK, exec);
  return sums;
}

// For activation-ordered groups: works in visiting order, in which groups are consecutive.
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

// Works on one strip of rows after another, with copies of only that strip's weights. `round` maps
// (rows, part of the result) to sums.
template <typename Round>
Rounded in_strips(const Matrix<float>& weight_NK, const RoundingOptions& options,
                  const GptqSite& site, const Round& round) {
  Rounded rounded;
  GptqSums sums;
  for_each_strip(
      weight_NK.rows(), weight_NK.cols(),
      [&](Index first, Index count) {
        QuantizedMatrix part;
        counted_from(first, [&] {
          sums += round(weight_NK.view().rows(first, count), part);
          expect_stored(weight_NK.view().rows(first, count), part);
        });
        put_rows(std::move(part), first, weight_NK.rows(), rounded.matrix);
      },
      options.strip_weights);
  rounded.report = gptq_report(sums, site);
  return rounded;
}

Rounded round_groups(const Matrix<float>& weight_NK, const Grid& planned,
                     const RoundingOptions& options, const GptqSite& site,
                     const quant::InputStats& stats, const Exec& exec) {
  expect_fits(weight_NK, planned);
  expect_in_reach(weight_NK, planned);
  std::vector<float> importance_K = channel_importance(stats, site.damp_percent);
  if (planned.desc_act) importance_K = in_order(importance_K, site.order);
  const ScaleGuide guide = {importance_K, site.hessian_KK.view()};
  // Strips of rows have one scale, too.
  const Grid grid = with_scale(weight_NK, planned, options.scale_rule, guide, exec);
  const auto round = [&](MatrixView<const float> rows_NK, QuantizedMatrix& part) {
    return grid.desc_act
               ? round_rows_in_order(rows_NK, grid, options, site, importance_K, part, exec)
               : round_rows({rows_NK, guide, site.order}, grid, options, site, part, exec);
  };
  return in_strips(weight_NK, options, site, round);
}

Rounded round_blocks(const Matrix<float>& weight_NK, const Grid& grid,
                     const RoundingOptions& options, const GptqSite& site,
                     const quant::InputStats& stats, const Exec& exec) {
  const auto round = [&](MatrixView<const float> rows_NK, QuantizedMatrix& part) {
    return round_blocks_gptq(rows_NK, grid, options, site, stats, part, exec);
  };
  return in_strips(weight_NK, options, site, round);
}

// A given mean square (an importance matrix) weights the format's own search; it is not a Hessian.
Rounded round_uncalibrated_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                  const RoundingOptions& options, const quant::InputStats& stats,
                                  const Exec& exec) {
  if (!stats.mean_square_K().empty() || has_vectors(grid))
    return round_to_blocks(weight_NK, grid, stats, {}, exec);
  return round_blocks_alone(weight_NK, grid, options, exec);
}

// Rounds the linears of one site. The Hessian is prepared for the first matrix that needs it, and
// consumes the Gram matrix: some block grids do without.
class GptqRounder {
 public:
  GptqRounder(quant::InputStats stats, const RoundingOptions& options, const Exec& exec)
      : stats_(std::move(stats)), options_(options), exec_(exec) {}

  // The first case that applies decides.
  Rounded operator()(Matrix<float> weight_NK, const Grid& grid) {
    // 1. Blocks without separate scale codes: as llama.cpp rounds them.
    if (!takes_feedback(grid)) return round_as_llama_cpp(std::move(weight_NK), grid);
    // 2. Blocks of a site without statistics: for the squared error.
    if (grid.block && !prepared_ && stats_.empty())
      return round_uncalibrated_blocks(weight_NK, grid, options_, stats_, exec_);
    // 3. No usable Hessian: to nearest, and the report says so.
    if (!prepared_) prepare(grid);
    if (rtn_) return round_by_rtn(std::move(weight_NK), grid);
    // 4. GPTQ, on blocks or on groups.
    if (has_vectors(grid) && !site_.keeps_runs) keep_runs(site_, options_, exec_);
    if (grid.block) return round_blocks(weight_NK, grid, options_, site_, stats_, exec_);
    assert(grid.desc_act == site_.hessian_in_order);  // a site has one order of groups
    return round_groups(weight_NK, grid, options_, site_, stats_, exec_);
  }

 private:
  void prepare(const Grid& grid) {
    prepared_ = true;
    site_ = prepare_gptq(stats_, grid.desc_act, options_, exec_);
    if (!site_.failure.empty()) rtn_ = make_rtn(options_)(std::move(stats_), exec_);
  }

  Rounded round_as_llama_cpp(Matrix<float> weight_NK, const Grid& grid) const {
    if (rtn_) return rtn_(std::move(weight_NK), grid);  // it has the statistics now
    const ErrorMeasure measure = site_.hessian_KK.empty() ? measure_of(stats_) : measure_of(site_);
    return round_to_blocks(weight_NK, grid, stats_, measure, exec_);
  }

  Rounded round_by_rtn(Matrix<float> weight_NK, const Grid& grid) const {
    Rounded rounded = rtn_(std::move(weight_NK), grid);
    rounded.report.fallback_reason = site_.failure;
    rounded.report.dead_columns = site_.dead_columns;
    return rounded;
  }

  quant::InputStats stats_;  // without the Gram matrix once the site is prepared
  RoundingOptions options_;
  Exec exec_;
  bool prepared_ = false;
  GptqSite site_;
  SiteRounder rtn_;  // used if factorization fails
};

// The operations of kRtn, which is the fallback, and GPTQ's own.
std::vector<Operation> operations(const RoundingOptions& options, const PlannedRounding& planned) {
  std::vector<Operation> called = kRtn.operations(options, planned);
  const bool block = planned.grid.block.has_value();
  if (!takes_feedback(planned.grid) || (!block && !planned.calibrated)) return called;
  if (has_vectors(planned.grid)) {
    if (planned.calibrated)
      called.insert(called.end(), {Operation::kInverseCholesky, Operation::kRoundVectors});
    return called;
  }
  if (planned.calibrated)
    called.insert(called.end(), {Operation::kInverseCholesky, Operation::kGptqSweep});
  if (!block && !planned.grid.number) called.push_back(Operation::kScaleSearch);
  if (options.refine_passes > 0)
    called.push_back(block ? Operation::kRefineBlocks : Operation::kRefineGrid);
  return called;
}

RoundingCost cost(const RoundingOptions& options, const PlannedRounding& planned, Index N,
                  Index K) {
  RoundingCost cost = kRtn.cost(options, planned, N, K);
  const int passes = options.refine_passes;
  if (!takes_feedback(planned.grid)) return cost;
  if (has_vectors(planned.grid)) {
    const int points = ggml::vectors_of(*planned.grid.block)->count();
    if (planned.calibrated)
      cost.refine_blocks =
          (passes > 0 ? options.rounds : 1) * round_vectors_cost(N, K, passes, points);
    return cost;
  }
  if (!planned.calibrated) {
    if (!planned.grid.block || planned.weighed || passes == 0) return cost;
    // round_blocks_alone rounds twice and keeps the better rows.
    cost.ggml_nanoseconds *= 2;
    cost.refine_blocks = 2.0 * refine_blocks_alone_cost(N, K, passes);
    return cost;
  }
  const double rounds = planned.grid.block && passes > 0 ? options.rounds : 1;
  cost.sweep = rounds * gptq_sweep_cost(N, K);
  if (passes == 0) return cost;
  (planned.grid.block ? cost.refine_blocks : cost.refine_grid) =
      planned.grid.block ? rounds * refine_blocks_cost(N, K, passes)
                         : refine_grid_cost(N, K, passes);
  return cost;
}

// One strip: weights in order and two sets of codes, or dequantized values and two sets of fields;
// plus the results of the strips, if there are several.
std::uint64_t scratch_bytes(const RoundingOptions& options, const PlannedRounding& planned, Index N,
                            Index K, std::uint64_t threads) {
  if (!planned.calibrated) return kRtn.scratch_bytes(options, planned, N, K, threads);
  const Grid& grid = planned.grid;
  const Index strip = std::min(N * K, options.strip_weights);
  return strip_bytes(options, grid, N, K, threads) +
         static_cast<std::uint64_t>((grid.block ? 3 : 2) * strip) +
         (strip < N * K ? code_bytes(grid, N, K) : 0) + scale_bytes(grid, N, K);
}

}  // namespace

extern const Rounding kGptq = {
    .name = "gptq",
    .title = "GPTQ",
    .summary = "round column by column and move each column's error onto the next",
    .needs_text = true,
    .feeds_back = true,
    .make = make_gptq,
    .operations = operations,
    .cost = cost,
    .scratch_bytes = scratch_bytes,
};

bool takes_feedback(const Grid& grid) {
  return !grid.block || has_block_structure(grid) || has_vectors(grid);
}

Rounder make_gptq(const RoundingOptions& options) {
  return [options](quant::InputStats stats, const Exec& exec) -> SiteRounder {
    const auto rounder = std::make_shared<GptqRounder>(std::move(stats), options, exec);
    return [rounder](Matrix<float> weight_NK, const Grid& grid) {
      return (*rounder)(std::move(weight_NK), grid);
    };
  };
}

}  // namespace calque::quant
