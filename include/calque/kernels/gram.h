#pragma once

#include <span>

#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

struct GramCount {
  Index rows = 0;            // rows that entered the sum
  Index nonfinite_rows = 0;  // rows skipped because an element was NaN or infinite
};

// Adds inputs^T * inputs to `gram_KK`: the Gram matrix of the inputs of one site, summed (not
// averaged) over tokens; and sum |x| to `magnitude_K` (K sums per channel). Rows with a non-finite
// element are skipped and counted. Sums in fp32 over fixed blocks of rows, so the result does not
// depend on the number of threads. `gram_KK` must be K x K; only its upper triangle (row <= column)
// is written. Products of bf16 inputs are exact in fp32.
GramCount accumulate_gram(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec);
GramCount accumulate_gram(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec);

// tr(X G X^T) = sum over the rows x of x^T G x for X [N, K], reading the upper triangle of
// `gram_KK`. fp32 products, summed in double. Cost N K^2. Does not depend on the number of threads.
double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec& exec);

}  // namespace calque
