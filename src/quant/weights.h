#pragma once

#include <span>
#include <vector>

#include "calque/calib/input_stats.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/quantized_matrix.h"
#include "calque/quant/rounder.h"

namespace calque::quant {

// What every rounder does before and after its own work.

// Share of the mean that a channel keeps although calibration has not seen it.
constexpr double kUnseenChannel = 1e-4;

// Throws Error(kNumerical) naming the first NaN or infinite weight.
void expect_finite(MatrixView<const float> weight_NK);

// Throws Error(kInternal) if `grid` does not divide the inputs or the inputs are not `features`.
void expect_fits(MatrixView<const float> weight_NK, const Grid& grid);

// What scale_search weights channel k with: mean square plus `damp` times the mean over channels,
// so that a channel which calibration has not seen still counts. Empty without statistics.
std::vector<float> channel_importance(const calib::InputStats& stats, double damp);

// Both triangles of G / tokens, from the upper one.
Matrix<float> symmetric_mean(const calib::InputStats& stats);

// What scales are chosen by.
struct ScaleGuide {
  std::span<const float> importance_K;      // empty: all channels alike
  MatrixView<const float> hessian_KK = {};  // both triangles; kBlockSearch is kSearch without it
};

// A matrix on `grid` with scales chosen by scale_search or block_scale_search for consecutive
// groups, and no codes yet.
QuantizedMatrix start_on_grid(MatrixView<const float> weight_NK, const Grid& grid, ScaleRule rule,
                              const ScaleGuide& guide, const Exec& exec);

// Loss and relative error of `q`, from the statistics or, without, from the weights alone.
void measure_error(MatrixView<const float> weight_NK, const QuantizedMatrix& q,
                   const calib::InputStats& stats, const Exec& exec, RoundingReport& report);

Matrix<float> difference(MatrixView<const float> a, MatrixView<const float> b);
double sum_of_squares(MatrixView<const float> values);

}  // namespace calque::quant
