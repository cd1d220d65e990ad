#include "quant/block_rounding.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "calque/ggml/quantize.h"
#include "calque/quant/methods.h"
#include "quant/weights.h"

namespace calque::quant {
namespace {

// Share of the mean that a column keeps although its inputs were never seen: a block whose weights
// are all zero would become zeros. Far below what real inputs have, so that the bytes stay those of
// llama.cpp on the same importance.
constexpr double kImportanceFloor = 1e-6;

}  // namespace

std::vector<float> block_importance(const quant::InputStats& stats) {
  std::vector<float> importance_K = stats.mean_square_K();
  if (importance_K.empty()) return importance_K;
  const double mean = std::accumulate(importance_K.begin(), importance_K.end(), 0.0) /
                      static_cast<double>(importance_K.size());
  if (mean <= 0) return std::vector<float>(importance_K.size(), 1.0f);
  const auto floor = static_cast<float>(kImportanceFloor * mean);
  for (float& importance : importance_K) importance = std::max(importance, floor);
  return importance_K;
}

QuantizedMatrix reference_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                                 std::span<const float> importance_K, const Exec& exec) {
  expect_fits(weight_NK, grid);
  expect_finite(weight_NK);
  QuantizedMatrix q;
  q.grid = grid;
  q.blocks_NB = Matrix<std::uint8_t>(
      weight_NK.rows(), static_cast<Index>(ggml_row_bytes(*grid.block, weight_NK.cols())));
  const std::span bytes(q.blocks_NB.data(), static_cast<std::size_t>(q.blocks_NB.size()));
  ggml_quantize(*grid.block, weight_NK, importance_K, std::as_writable_bytes(bytes), exec);
  return q;
}

Rounded round_to_blocks(MatrixView<const float> weight_NK, const Grid& grid,
                        const quant::InputStats& stats, const ErrorMeasure& measure,
                        const Exec& exec) {
  const std::vector<float> importance_K = block_importance(stats);
  Rounded rounded;
  rounded.matrix = reference_blocks(weight_NK, grid, importance_K, exec);
  rounded.report.method = importance_K.empty() ? kRtn.name : kByImportance;
  measure_error(weight_NK, rounded.matrix, measure, exec, rounded.report);
  return rounded;
}

}  // namespace calque::quant
