#pragma once

#include <cstdint>
#include <optional>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/core/small_float.h"
#include "calque/kernels/scale_search.h"

namespace calque {

struct RefineOptions {
  OffsetKind offset_kind = OffsetKind::kMiddleCode;
  ScalePrecision precision = ScalePrecision::kF16;
  int max_code = 15;
  std::optional<SmallFloat> number = std::nullopt;  // as in GridView
  float divisor = 1;                                // kE4M3: of all scales
  bool moves_scales = true;  // false: rows or groups share them, so they stay
  int passes = 1;
};

struct RefineGrid {
  MatrixView<const float> weight_NK;
  MatrixView<const float> hessian_KK;  // symmetric with both triangles filled
  Index group_size = 0;                // consecutive columns; divides K
  RefineOptions options;
  MatrixView<float> scales_NG, offsets_NG;  // in and out
  MatrixView<std::uint8_t> codes_NK;        // in and out
};

// Lowers tr(E H E^T), E = weight - (scale * code + offset), starting from any codes on a grid of
// consecutive groups. A pass visits the columns from left to right: each code moves to the nearest
// grid value of the minimizer of the loss in that coordinate (QuantEase, arXiv 2309.01885), and
// after the columns of a group its scale moves to the minimizer along the group's codes,
//   scale += (q . R_g) / (q . H_gg q),  q = code - zero or the code's number, R = E H,
// rounded to `precision` (kMinimum: then the offset likewise, along ones). Zero points stay. Every
// move is kept only if it lowers the loss, so passes never raise it beyond the rounding of sums.
// Cost 2 N K^2 (1 + passes), fp32. Returns the loss reached. Does not depend on the number of
// threads.
double refine_grid(const RefineGrid& task, const Exec& exec);

// R = E H once and, in every pass, as it changes.
constexpr Cost refine_grid_cost(Index N, Index K, int passes) {
  return {.flops = 2 * static_cast<double>(N) * static_cast<double>(K) * static_cast<double>(K) *
                   (1 + passes)};
}

}  // namespace calque
