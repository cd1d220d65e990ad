#pragma once

#include <cstdint>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/quant/grid.h"

namespace calque::quant {

// The neutral form between methods and formats: value = scale * code + offset, with scales and
// offsets already rounded to what the grid stores, so a packer does no rounding and
// unpack(pack(q)) dequantizes to the same bits as q.
// Integer zero points are offset = -scale * z; in fp32 that is exact, and scale * code + offset has
// the bits of scale * (code - z) for every fp16 scale and z, code < 256.
struct QuantizedMatrix {
  Grid grid;
  Matrix<std::uint8_t> codes_NK;
  Matrix<float> scales_NG;
  Matrix<float> offsets_NG;
  // Group of each column; empty: column / group_size. Only activation-ordered GPTQ files need it.
  std::vector<std::int32_t> group_of_column_K;
  // Of a grid with `block`: the rows as the file stores them, and nothing in the matrices above.
  Matrix<std::uint8_t> blocks_NB;

  Index out_features() const { return grid.block ? blocks_NB.rows() : codes_NK.rows(); }
  Index in_features() const;
  // Zero points z_NG of a kMiddleCode or kZeroPoint grid: rint(-offset / scale).
  Matrix<std::uint8_t> zeros_NG() const;
};

// Group of each of `in_features` columns when groups are consecutive.
std::vector<std::int32_t> consecutive_groups(Index in_features, Index group_size);

// fp32 values [N, K]; of `count` rows from `first` on.
Matrix<float> dequantize(const QuantizedMatrix& q);
Matrix<float> dequantize(const QuantizedMatrix& q, Index first, Index count);

}  // namespace calque::quant
