#pragma once

#include <span>

#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"

// A container may store a matrix with its columns in another order. Codes of a row depend on their
// neighbours, so the matrix is rounded in that order, under statistics in that order. `order_K`
// says which column stands at each place; empty: the same order.
namespace calque::quant {

// Column k of the result is column order_K[k] of the matrix.
Matrix<float> reordered(Matrix<float> values_NK, std::span<const Index> order_K);
// Column order_K[k] of the result is column k of the matrix.
Matrix<float> in_own_order(Matrix<float> values_NK, std::span<const Index> order_K);
InputStats reordered(InputStats stats, std::span<const Index> order_K);

}  // namespace calque::quant
