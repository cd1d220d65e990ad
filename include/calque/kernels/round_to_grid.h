#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/core/small_float.h"

namespace calque {

// The grids of a matrix's rows. The value of a code in row n and column k is
//   scales_NG[n][g] * level + offsets_NG[n][g],  g = group_of_column_K[k],
// where the level is the code itself or, with a `table` of max_code + 1 rising levels, table[code],
// or, with a `number`, the number of that type whose bits the code is; then all codes of it are
// possible, and offsets are 0. Scales may be negative. Borrowed.
struct GridView {
  MatrixView<const float> scales_NG, offsets_NG;
  std::span<const std::int32_t> group_of_column_K;
  int max_code = 0;  // 1 to 255
  std::span<const float> table = {};
  std::optional<SmallFloat> number = std::nullopt;
};

// codes[n][k] = the code in [0, max_code] whose value is nearest to weight[n][k]; (weight - offset)
// / scale is rounded to nearest, ties to even. A zero scale gives code 0. The grid has no table; it
// may have a `number` on devices that provide kFloatScaleSearch.
void round_to_grid(MatrixView<const float> weight_NK, const GridView& grid,
                   MatrixView<std::uint8_t> codes_NK, const Exec& exec);

}  // namespace calque
