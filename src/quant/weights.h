#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"
#include "calque/quant/quantized_matrix.h"
#include "calque/quant/rounder.h"

namespace calque::quant {

// Steps that every rounder shares before and after its own work.

// Share of the mean that a channel keeps if calibration has not seen it.
constexpr double kUnseenChannel = 1e-4;

// Throws Error(kNumerical) naming the first NaN or infinite weight.
void expect_finite(MatrixView<const float> weight_NK);

// Throws Error(kInternal) if `grid` does not divide the inputs or the inputs are not `features`.
void expect_fits(MatrixView<const float> weight_NK, const Grid& grid);

// The same, and throws UnreachableWeight for a weight that no scale of `grid` reaches. Called
// before a search, whose sums such a weight overflows, so that what comes out need not show it.
// Goes through the weights once.
void expect_in_reach(MatrixView<const float> weight_NK, const Grid& grid);

// Throws UnreachableWeight if a scale or minimum of `q` is infinite or NaN, or was cut off at the
// largest number of its precision so that a weight of its group is out of reach.
void expect_stored(MatrixView<const float> weight_NK, const QuantizedMatrix& q);

// The weight of channel k in scale_search: mean square plus `damp` times the mean over channels, so
// that a channel that calibration has not seen still counts. Empty without statistics.
std::vector<float> channel_importance(const quant::InputStats& stats, double damp);

// Multiplies a Gram matrix by 1 / tokens in place, replaces its diagonal by `diagonal_K`, and fills
// the lower triangle from the upper one.
void make_hessian(MatrixView<float> gram_KK, Index tokens, const std::vector<double>& diagonal_K);
void fill_lower(MatrixView<float> matrix_KK);

// Measures errors: G / tokens = scale * matrix - damping * I, with the Gram matrix or a Hessian
// made from it.
struct ErrorMeasure {
  MatrixView<const float> matrix_KK = {};  // only its upper triangle; empty: not calibrated
  double scale = 1;
  double damping = 0;

  // tr(X G X^T) / tokens.
  double operator()(MatrixView<const float> rows_NK, const Exec& exec) const;
};
ErrorMeasure measure_of(const quant::InputStats& stats);

// Calls body(first, count) for strips of rows, narrow enough that copies of one are small next to a
// block's weights. Strips end where the kernels also cut, so that computing strip by strip gives
// the same bits.
template <typename Body>
void for_each_strip(Index rows, Index columns, const Body& body,
                    Index elements = RoundingOptions{}.strip_weights) {
  constexpr Index kRows = 128;
  const Index strip = std::max<Index>(1, elements / columns / kRows) * kRows;
  for (Index first = 0; first < rows; first += strip) body(first, std::min(strip, rows - first));
}

// Memory for rounding such a matrix: the copies of a strip's weights (with desc_act also in input
// order), the operations' panels, the codes, and scales and offsets.
std::uint64_t strip_bytes(const RoundingOptions& options, const Grid& grid, Index N, Index K,
                          std::uint64_t threads);
std::uint64_t code_bytes(const Grid& grid, Index N, Index K);
std::uint64_t scale_bytes(const Grid& grid, Index N, Index K);

// Inputs of the choice of scales.
struct ScaleGuide {
  std::span<const float> importance_K;      // empty: all channels alike
  MatrixView<const float> hessian_KK = {};  // both triangles; without it kBlockSearch is kSearch
};

// The grids of `q` as kernels take them. `groups_K`: the group of each of its columns.
GridView view_of(const QuantizedMatrix& q, std::span<const std::int32_t> groups_K);

// The grid of `weight_NK` with its scale, where all its rows share one and it is not given yet.
Grid with_scale(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                const ScaleGuide& guide, const Exec& exec);

// A matrix on `grid` with scales chosen by scale_search or block_scale_search for consecutive
// groups (float_scale_search for grids of floating-point numbers), and no codes yet.
QuantizedMatrix start_on_grid(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec);

// Copies the rows of `part`, on the same grid, to rows `first` and after. The first part gives `q`
// its `rows` rows.
void put_rows(QuantizedMatrix part, Index first, Index rows, QuantizedMatrix& q);

// Sets loss and relative error of `q`, from the statistics or else from the weights alone.
void measure_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q,
                   const ErrorMeasure& measure, const Exec& exec, RoundingReport& report);

// values -= b.
void subtract(MatrixView<const float> b, MatrixView<float> values);
// |dequantize(q) - weight|^2.
double squared_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q);

using Order = std::vector<Index>;  // order[i]: the column visited i-th

Order stored_order(std::size_t columns);

// Orders by falling diagonal, equal entries from left to right.
Order falling_order(const std::vector<float>& diagonal_K);

Matrix<float> columns_in_order(MatrixView<const float> weight_NK, const Order& order);
std::vector<float> in_order(const std::vector<float>& values_K, const Order& order);

// Permutes rows and columns of a matrix with both triangles, in place.
void put_square_in_order(MatrixView<float> matrix_KK, const Order& order);
// The upper triangle of the same, times `scale`; the lower triangle is undefined.
Matrix<float> upper_in_order(MatrixView<const float> matrix_KK, const Order& order, float scale);

// codes_NK's column order[i] = ordered's column i.
void restore_order(const Matrix<std::uint8_t>& ordered, const Order& order,
                   Matrix<std::uint8_t>& codes_NK);

// For `q` rounded with columns in `order` and consecutive groups: restores the order of the codes
// and sets the group of each column.
void restore_order(QuantizedMatrix& q, const Order& order);

}  // namespace calque::quant
