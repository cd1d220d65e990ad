#pragma once

#include <cstdint>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::quant {

using Order = std::vector<Index>;  // order[i]: the column visited i-th

Order stored_order(std::size_t columns);

// By falling diagonal, equal ones from left to right.
Order falling_order(const std::vector<float>& diagonal_K);

Matrix<float> columns_in_order(MatrixView<const float> weight_NK, const Order& order);
std::vector<float> in_order(const std::vector<float>& values_K, const Order& order);

// Rows and columns of a matrix with both triangles, in its own memory.
void put_square_in_order(MatrixView<float> matrix_KK, const Order& order);
// The upper triangle of the same, times `scale`; the lower one is undefined.
Matrix<float> upper_in_order(MatrixView<const float> matrix_KK, const Order& order, float scale);

// codes_NK's column order[i] = ordered's column i.
void restore_order(const Matrix<std::uint8_t>& ordered, const Order& order,
                   Matrix<std::uint8_t>& codes_NK);

// `q` was rounded with its columns in `order` and consecutive groups: puts the codes back and says
// which group each column belongs to.
void restore_order(QuantizedMatrix& q, const Order& order);

}  // namespace calque::quant
