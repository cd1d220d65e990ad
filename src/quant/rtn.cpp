#include <memory>
#include <numeric>
#include <utility>

#include "calque/kernels/gram.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/scale_search.h"
#include "calque/quant/methods.h"
#include "quant/gptq_blocks.h"
#include "quant/mlx_rounding.h"
#include "quant/weights.h"

namespace calque::quant {

extern const Rounding kRtn;  // below

namespace {

// The part that depends only on the site.
struct Site {
  quant::InputStats stats;          // without the Gram matrix if there is a Hessian
  std::vector<float> importance_K;  // empty without statistics
  Matrix<float> hessian_KK;         // both triangles; only for kBlockSearch
  double damping = 0;               // on its diagonal

  ErrorMeasure measure() const {
    if (hessian_KK.empty()) return measure_of(stats);
    return {.matrix_KK = hessian_KK.view(), .scale = 1, .damping = damping};
  }
};

void make_site_hessian(Site& site) {
  const Index features = site.stats.features();
  std::vector<double> diagonal_K;
  for (Index k = 0; k < features; ++k)
    diagonal_K.push_back(static_cast<double>(1.0f / static_cast<float>(site.stats.tokens) *
                                             site.stats.gram_KK(k, k)));
  const double trace = std::accumulate(diagonal_K.begin(), diagonal_K.end(), 0.0);
  site.damping = kUnseenChannel * trace / static_cast<double>(features);
  for (double& value : diagonal_K)
    value = static_cast<float>(value) + static_cast<float>(site.damping);
  site.hessian_KK = site.stats.take_gram();
  fill_lower(site.hessian_KK);
  make_hessian(site.hessian_KK, site.stats.tokens, diagonal_K);
}

Site prepare(quant::InputStats stats, const RoundingOptions& options) {
  Site site;
  site.importance_K = channel_importance(stats, kUnseenChannel);
  site.stats = std::move(stats);
  if (options.scale_rule == ScaleRule::kBlockSearch && !site.importance_K.empty() &&
      !site.stats.empty())
    make_site_hessian(site);
  return site;
}

// Rounds with consecutive groups.
QuantizedMatrix round_columns(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec) {
  if (grid.mlx && rule == ScaleRule::kMinMax) return round_as_mlx(weight_NK, grid, exec);
  QuantizedMatrix q = start_on_grid(weight_NK, grid, rule, guide, exec);
  const auto groups_K = consecutive_groups(q.in_features(), grid.group_size_for(q.in_features()));
  round_to_grid(weight_NK, view_of(q, groups_K), q.groups().codes_NK, exec);
  return q;
}

// Rounds with groups in order of falling mean square of the inputs; consecutive without statistics.
QuantizedMatrix round_in_order(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                               const Site& site, const Exec& exec) {
  const Order order = site.importance_K.empty()
                          ? stored_order(static_cast<std::size_t>(weight_NK.cols()))
                          : falling_order(site.importance_K);
  const std::vector<float> importance_K = in_order(site.importance_K, order);
  Matrix<float> hessian_KK = site.hessian_KK.clone();
  put_square_in_order(hessian_KK, order);
  QuantizedMatrix q = round_columns(columns_in_order(weight_NK, order), grid, rule,
                                    {importance_K, hessian_KK.view()}, exec);
  restore_order(q, order);
  return q;
}

Rounded round_rtn(const Matrix<float>& weight_NK, const Grid& grid, const RoundingOptions& options,
                  const Site& site, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_in_reach(weight_NK, grid);
  Rounded rounded;
  rounded.report.method = kRtn.name;
  rounded.matrix = grid.desc_act ? round_in_order(weight_NK, grid, options.scale_rule, site, exec)
                                 : round_columns(weight_NK, grid, options.scale_rule,
                                                 {site.importance_K, site.hessian_KK.view()}, exec);
  expect_stored(weight_NK, rounded.matrix);
  measure_error(weight_NK, rounded.matrix, site.measure(), exec, rounded.report);
  return rounded;
}

std::vector<Operation> operations(const RoundingOptions& options, const PlannedRounding& planned) {
  std::vector<Operation> called;
  if (planned.calibrated) called.push_back(Operation::kGramEnergy);
  if (planned.grid.block) return called;  // llama.cpp's rounding runs on the host
  called.push_back(Operation::kRoundToGrid);
  if (planned.grid.number) {
    called.push_back(Operation::kFloatScaleSearch);
    return called;
  }
  const bool by_blocks = planned.calibrated && options.scale_rule == ScaleRule::kBlockSearch;
  called.push_back(by_blocks ? Operation::kBlockScaleSearch : Operation::kScaleSearch);
  return called;
}

Cost search_cost(ScaleRule rule, const PlannedRounding& planned, Index N, Index K) {
  if (planned.calibrated && rule == ScaleRule::kBlockSearch && !planned.grid.number)
    return block_scale_search_cost(N, K, planned.grid.group_size_for(K));
  const bool searches = rule == ScaleRule::kSearch || rule == ScaleRule::kBlockSearch;
  return searches ? scale_search_cost(N, K) : Cost{};
}

RoundingCost cost(const RoundingOptions& options, const PlannedRounding& planned, Index N,
                  Index K) {
  RoundingCost cost;
  if (planned.calibrated) cost.energies = 2.0 * gram_energy_cost(N, K);
  if (planned.grid.block)
    cost.ggml_nanoseconds =
        ggml::info_of(*planned.grid.block).nanoseconds * static_cast<double>(N * K);
  else
    cost.scale_search = search_cost(options.scale_rule, planned, N, K);
  return cost;
}

std::uint64_t scratch_bytes(const RoundingOptions& options, const PlannedRounding& planned, Index N,
                            Index K, std::uint64_t threads) {
  return strip_bytes(options, planned.grid, N, K, threads) + code_bytes(planned.grid, N, K) +
         scale_bytes(planned.grid, N, K);
}

}  // namespace

Rounder make_rtn(const RoundingOptions& options) {
  return [options](quant::InputStats stats, const Exec& exec) -> SiteRounder {
    const auto site = std::make_shared<const Site>(prepare(std::move(stats), options));
    return [options, site, exec](Matrix<float> weight_NK, const Grid& grid) {
      if (grid.block) return round_to_blocks(weight_NK, grid, site->stats, site->measure(), exec);
      return round_rtn(weight_NK, grid, options, *site, exec);
    };
  };
}

extern const Rounding kRtn = {
    .name = "rtn",
    .title = "round to nearest",
    .summary = "round every weight to the nearest value of its grid",
    .llama_cpp_types = true,
    .make = make_rtn,
    .operations = operations,
    .cost = cost,
    .scratch_bytes = scratch_bytes,
};

}  // namespace calque::quant
