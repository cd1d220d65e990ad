#pragma once

#include <cstdint>
#include <span>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/core/small_float.h"

namespace calque {

enum class OffsetKind {
  kMiddleCode,  // offset = -scale * 2^(bits-1): symmetric
  kZeroPoint,   // offset = -scale * z, integer z in [min_zero, 2^bits - 1]
  kMinimum,     // offset is a number of its own (GGUF Q4_1, Q5_1)
};
enum class ScalePrecision {
  kF32,
  kF16,
  kBF16,
  kF16AndBF16,  // numbers that both binary16 (normal ones) and bfloat16 hold: any container's
  kE4M3,        // FP8 numbers that a number of the whole matrix divides (NVFP4)
  kE8M0,        // powers of two, 2^-127 to 2^127 (MX formats)
};
enum class ScaleRule {
  kMinMax,  // symmetric: scale = 2 max|w| / (2^bits - 1); else (max - min) / (2^bits - 1) with 0 in
            // the range
  kFullRange,    // symmetric: the entry of largest magnitude becomes code 0, so the scale may be
                 // negative; else as kMinMax
  kSearch,       // the best of candidates around kFullRange (both signs) / kMinMax under
                 // importance-weighted squared error
  kBlockSearch,  // clipped ranges under e H_gg e^T, with H_gg the Hessian's block of the
                 // group: AWQ's clipping search without its
                 // sampling. As kSearch where there is no Hessian
};

struct ScaleSearchOptions {
  int bits = 4;
  OffsetKind offset_kind = OffsetKind::kMiddleCode;
  ScalePrecision precision = ScalePrecision::kF16;  // scales have it (and kMinimum offsets)
  int min_zero = 0;                                 // kZeroPoint: smallest zero point allowed
  ScaleRule rule = ScaleRule::kSearch;
};

struct ScaleSearch {
  MatrixView<const float> weight_NK;
  Index group_size = 0;  // consecutive columns; divides K
  ScaleSearchOptions options;
  MatrixView<float> scales_NG, offsets_NG;  // out
};

// Scale and offset of every group, already rounded to `precision`, chosen to make sum_k
// importance_K[k] * (w - nearest grid value)^2 small (an empty `importance_K`: all ones). Rows and
// groups are independent. A group of zeros gets a scale from which every weight decodes to exactly
// 0. Scales are never denormal, infinite or zero otherwise; magnitudes beyond binary16 saturate.
void scale_search(const ScaleSearch& search, std::span<const float> importance_K, const Exec& exec);

// A scale, and an offset of its own (kMinimum), as `precision` stores them: rounded and saturated;
// a scale keeps its sign and stays away from zero and denormal numbers. kE4M3 needs the `divisor`.
float rounded_scale(float scale, ScalePrecision precision, float divisor = 1);
float rounded_offset(float offset, ScalePrecision precision);

// As scale_search with the error of a group measured as e H_gg e^T, `hessian_KK` [K, K] with both
// triangles filled: AWQ's clipped ranges, (1 - i / 20) of the weights' with i = 0..9, and the
// result of kSearch, then least-squares scales for the codes of the best. The rule is kBlockSearch.
// Never worse than kMinMax or kSearch beyond the rounding of sums in fp32. Cost about N K
// group_size multiplications a candidate.
void block_scale_search(const ScaleSearch& search, MatrixView<const float> hessian_KK,
                        const Exec& exec);

// Scales of a grid whose codes are floating-point numbers. One scale serves `group_size`
// consecutive columns of `scale_rows` consecutive rows (the last of fewer rows where these do not
// divide).
struct FloatScaleSearch {
  // One matrix, or the matrices that stand on top of each other in one: N counts all their rows.
  std::span<const MatrixView<const float>> weights;
  SmallFloat number = SmallFloat::kE4M3;
  Index group_size = 0;  // divides K
  Index scale_rows = 1;
  ScalePrecision precision = ScalePrecision::kBF16;
  float divisor = 1;  // kE4M3: of all scales
  ScaleRule rule = ScaleRule::kSearch;
  MatrixView<float> scales_NG;  // out: every row has its scales, those that share one the same
};

// kMinMax and kFullRange: scale = max|w| / the type's largest number; kE8M0: power_of_two_scale of
// max|w|. kSearch and kBlockSearch: the best of that and of kFloatScales others, from clipping a
// little to leaving the upper numbers unused, by sum_k importance_K[k] * (w - nearest grid value)^2
// over all weights of the scale (an empty `importance_K`: all ones). A floating-point grid is
// nearly the same at every size, so what is gained is where the steps' doublings fall among the
// weights. Powers of two: half and twice as much. Rounded to `precision`, as scale_search does it.
void float_scale_search(const FloatScaleSearch& search, std::span<const float> importance_K,
                        const Exec& exec);

inline constexpr int kFloatScales = 24;

constexpr Cost scale_search_cost(Index N, Index K) {
  return {.searched_weights = static_cast<double>(N) * static_cast<double>(K)};
}

// Ranges that block_scale_search clips to, 1 - i / 20 of the weights'; its candidates are these and
// what kSearch finds.
inline constexpr int kClippedRanges = 10;

constexpr Cost block_scale_search_cost(Index N, Index K, Index group_size) {
  const double weights = static_cast<double>(N) * static_cast<double>(K);
  return {.flops = 2 * (kClippedRanges + 1) * weights * static_cast<double>(group_size),
          .searched_weights = weights};
}

}  // namespace calque
