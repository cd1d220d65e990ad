#pragma once

#include "calque/core/matrix.h"

namespace calque::cpu {

// c = alpha * a b + beta * c in fp32. oneDNN's product (its code is generated for the processor it
// meets; Debian's OpenBLAS 0.3.21 does not know processors younger than itself and is five times
// slower there). On one thread when called from a body of Workers::for_each.
void sgemm(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
           MatrixView<float> c);

// c = alpha * a^T b + beta * c.
void sgemm_transposed(float alpha, MatrixView<const float> a, MatrixView<const float> b, float beta,
                      MatrixView<float> c);

}  // namespace calque::cpu
