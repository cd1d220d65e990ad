#pragma once

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::forward {

// c_MN = a_MK * b_NK^T, or with `add` c_MN += ... ; fp32, on the calling thread.
//
// oneDNN's sgemm, not ATen's: Debian's ATen calls the system's BLAS, and OpenBLAS 0.3.21 takes
// processors newer than itself for a Prescott (34 GFLOP/s a core where oneDNN reaches 160). It also
// has a process-wide thread count, which would make results depend on what else runs.
void multiply_transposed(MatrixView<const float> a_MK, MatrixView<const float> b_NK,
                         MatrixView<float> c_MN, bool add = false);

// The same of bf16 matrices: exact products, fp32 sums.
void multiply_transposed(MatrixView<const BFloat16> a_MK, MatrixView<const BFloat16> b_NK,
                         MatrixView<float> c_MN);

// c_MN = a_MK * b_KN; T is float or BFloat16. By oneDNN's primitive: where N is a head's few
// columns it is up to a third faster than sgemm.
template <typename T>
void multiply(MatrixView<const T> a_MK, MatrixView<const T> b_KN, MatrixView<float> c_MN);

// Of oneDNN: Error(kResource, "E304") where memory was lacking, else Error(kInternal).
[[noreturn]] void throw_product_error(int dnnl_status);

}  // namespace calque::forward
