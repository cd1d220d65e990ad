#pragma once

#include "calque/core/dtype.h"
#include "calque/core/parallel.h"

namespace calque::cpu {

// gram_KK += block^T block, upper triangle only, for the rows of one block, all of them finite: the
// products of the block are summed in fp32 by themselves and added to `gram_KK` at the end. bf16:
// each product is exact.
void add_gram(MatrixView<const float> block_TK, MatrixView<float> gram_KK, const Workers& workers);
void add_gram(MatrixView<const BFloat16> block_TK, MatrixView<float> gram_KK,
              const Workers& workers);

}  // namespace calque::cpu
