#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/quant/grid.h"

namespace calque::quant {

// A matrix on a grid of groups: value = scale * code + offset, with scales and offsets already
// rounded to the grid's precision. An integer zero point z is offset = -scale * z. That is exact in
// fp32, and scale * code + offset has the bits of scale * (code - z) for every fp16 scale and z,
// code < 256. On a grid of floating-point numbers value = scale * number, and offsets are 0.
struct GroupCodes {
  Matrix<std::uint8_t> codes_NK;
  Matrix<float> scales_NG;
  Matrix<float> offsets_NG;
  float scale_divisor = 1;  // ScalePrecision::kE4M3: scales are FP8 numbers divided by it
  // Group of each column; empty: column / group_size. Only activation-ordered GPTQ files need it.
  std::vector<std::int32_t> group_of_column_K;

  // Zero points of a kMiddleCode or kZeroPoint grid: rint(-offset / scale).
  Matrix<std::uint8_t> zeros_NG() const;
};

// A matrix on a grid with `block`: rows of B bytes as a GGUF file stores them.
struct BlockRows {
  Matrix<std::uint8_t> rows_NB;
};

// The neutral form between methods and formats. Packers do not round: unpack(pack(q)) dequantizes
// to the same bits as q.
struct QuantizedMatrix {
  Grid grid;
  std::variant<GroupCodes, BlockRows> stored;  // BlockRows if and only if grid.block
  float input_peak = 0;  // the largest magnitude of its inputs in calibration; 0: not measured

  GroupCodes& groups() { return std::get<GroupCodes>(stored); }
  const GroupCodes& groups() const { return std::get<GroupCodes>(stored); }
  BlockRows& blocks() { return std::get<BlockRows>(stored); }
  const BlockRows& blocks() const { return std::get<BlockRows>(stored); }

  Index out_features() const;
  Index in_features() const;
};

// The group of each of `in_features` columns when groups are consecutive.
std::vector<std::int32_t> consecutive_groups(Index in_features, Index group_size);

// The fp32 values [N, K], or `count` rows of them from `first` on.
Matrix<float> dequantize(const QuantizedMatrix& q);
Matrix<float> dequantize(const QuantizedMatrix& q, Index first, Index count);

}  // namespace calque::quant
