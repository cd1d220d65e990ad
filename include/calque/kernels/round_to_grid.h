#pragma once

#include <cstdint>
#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// codes[n][k] = the code c in [0, max_code] whose value scale * c + offset is nearest to
// weight[n][k], with scale and offset of row n, group group_of_column_K[k]; (weight - offset) /
// scale is rounded to nearest, ties to even. A zero scale gives code 0.
void round_to_grid(MatrixView<const float> weight_NK, MatrixView<const float> scales_NG,
                   MatrixView<const float> offsets_NG,
                   std::span<const std::int32_t> group_of_column_K, int max_code,
                   MatrixView<std::uint8_t> codes_NK, const Exec& exec);

}  // namespace calque
