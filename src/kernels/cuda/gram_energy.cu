// tr(X G X^T) on a GPU; the reference is kernels/cpu/gram_energy.cpp.

#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/port.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// Kernels.

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A block makes one row of the triangle S with x^T G x = x^T S x: what is right of the diagonal
// stands for its mirror image too.
__global__ void __launch_bounds__(kThreads) double_upper(float* gram_KK, int cols) {
  const int row = static_cast<int>(blockIdx.x);
  float* const values = gram_KK + static_cast<Index>(row) * cols;
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += kThreads) {
    if (c < row) values[c] = 0.0f;
    if (c > row) values[c] *= 2.0f;
  }
}

// A warp sums the products of one row of `a` and `b`, in double and in an order that depends on the
// columns alone.
__global__ void __launch_bounds__(kThreads)
    row_products(const float* a_NK, const float* b_NK, int rows, int cols, double* sums_N) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;  // all of the warp leaves
  const float* const a = a_NK + static_cast<Index>(row) * cols;
  const float* const b = b_NK + static_cast<Index>(row) * cols;
  double sum = 0;
  for (int c = lane; c < cols; c += 32) sum += static_cast<double>(a[c]) * b[c];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (lane == 0) sums_N[row] = sum;
}

// The operation.

// Rows whose products are in memory at a time: enough to fill a GPU.
constexpr Index kPanelRows = 4096;

}  // namespace

double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec::Backend& backend) {
  const Index cols = gram_KK.cols();
  if (rows_NK.empty()) return 0.0;
  const Session session(backend);
  auto doubled_KK = DeviceMatrix<float>::from(gram_KK, session);
  launch(double_upper, dim3(static_cast<unsigned>(cols)), dim3(kThreads), 0, session.stream(),
         doubled_KK.data(), cols);

  const Index panel_rows = std::min(kPanelRows, rows_NK.rows());
  DeviceMatrix<float> rows_PK(panel_rows, cols), product_PK(panel_rows, cols);
  DeviceMatrix<double> energy_P(1, panel_rows);
  std::vector<double> energy_N(static_cast<std::size_t>(rows_NK.rows()));
  for (Index first = 0; first < rows_NK.rows(); first += panel_rows) {
    const Index count = std::min(panel_rows, rows_NK.rows() - first);
    rows_PK.upload(rows_NK.rows(first, count), session);
    session.libraries().multiply(1.0f, {rows_PK.data(), count, cols, cols}, doubled_KK.view(), 0.0f,
                                 {product_PK.data(), count, cols, cols});
    launch(row_products, dim3(static_cast<unsigned>((count + kWarps - 1) / kWarps)), dim3(kThreads),
           0, session.stream(), rows_PK.data(), product_PK.data(), count, cols, energy_P.data());
    energy_P.download({energy_N.data() + first, 1, count, panel_rows}, session);
  }
  return std::accumulate(energy_N.begin(), energy_N.end(), 0.0);
}

}  // namespace calque::cuda
