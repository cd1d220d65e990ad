#pragma once

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// Dense products in fp32 on the host. Neither depends on the number of threads.

// a b.
Matrix<float> multiply(MatrixView<const float> a_NK, MatrixView<const float> b_KM,
                       const Exec& exec);

// Adds a^T b to `sum_KM`. The order of the sums over T is fixed for one call; how T is cut into
// calls shows in the last bits.
void accumulate_product(MatrixView<const float> a_TK, MatrixView<const float> b_TM,
                        MatrixView<float> sum_KM, const Exec& exec);

constexpr Cost product_cost(double N, double K, double M) { return {.flops = 2 * N * K * M}; }

}  // namespace calque
