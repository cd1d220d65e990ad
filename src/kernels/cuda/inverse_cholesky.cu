// U with H^-1 = U^T U from one Cholesky factorisation of H in reversed order, in fp32. Reference:
// cpu/inverse_cholesky.cpp:
//   J H J = L L^T,  U = J L^-1 J,  J the reversal.

#include <cmath>

#include "calque/kernels/inverse_cholesky.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/port.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Kernels

constexpr int kThreads = 256;

// The lower triangle of J * source * J, from the upper one of `source`. A block a row.
__global__ void __launch_bounds__(kThreads)
    reverse_to_lower(const float* source_KK, float* lower_KK, Index size) {
  const Index row = blockIdx.x;
  for (Index col = threadIdx.x; col <= row; col += kThreads)
    lower_KK[row * size + col] = source_KK[(size - 1 - row) * size + (size - 1 - col)];
}

// J * lower * J with zeros below its diagonal. A block a row.
__global__ void __launch_bounds__(kThreads)
    reverse_to_upper(const float* lower_KK, float* upper_KK, Index size) {
  const Index row = blockIdx.x;
  for (Index col = threadIdx.x; col < size; col += kThreads)
    upper_KK[row * size + col] =
        col < row ? 0.0f : lower_KK[(size - 1 - row) * size + (size - 1 - col)];
}

// ---- Launchers

using Kernel = void (*)(const float*, float*, Index);

void reverse(Kernel kernel, const DeviceMatrix<float>& source_KK, DeviceMatrix<float>& target_KK,
             cudaStream_t stream) {
  launch(kernel, dim3(static_cast<unsigned>(source_KK.rows())), dim3(kThreads), 0, stream,
         source_KK.data(), target_KK.data(), source_KK.rows());
}

bool is_positive_and_finite(MatrixView<const float> factor_KK) {
  for (Index i = 0; i < factor_KK.rows(); ++i)
    if (!std::isfinite(factor_KK(i, i)) || !(factor_KK(i, i) > 0.0f)) return false;
  return true;
}

}  // namespace

// ---- The operation

bool inverse_cholesky(MatrixView<float> hessian_KK, const Exec::Backend& backend) {
  const Index size = hessian_KK.rows();
  if (size == 0) return true;
  const Session session(backend);
  auto upper_KK = DeviceMatrix<float>::from(hessian_KK, session);
  DeviceMatrix<float> lower_KK(size, size);
  reverse(reverse_to_lower, upper_KK, lower_KK, session.stream());
  const DeviceView<float> lower = {lower_KK.data(), size, size, size};
  if (!session.libraries().factor_lower(lower)) return false;
  session.libraries().invert_lower(lower);
  reverse(reverse_to_upper, lower_KK, upper_KK, session.stream());
  upper_KK.download(hessian_KK, session);
  // An entry that is not finite reaches the pivot of its row, and 1 / pivot is on the diagonal.
  return is_positive_and_finite(hessian_KK);
}

}  // namespace calque::cuda
