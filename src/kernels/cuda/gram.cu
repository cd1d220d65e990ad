// What gram_sums.cpp queues for each block of rows: the copy without rows that are not finite,
// magnitudes, and X^T X; the reference is kernels/cpu/gram.cpp. Narrow Gram matrices by a kernel of
// this file, wide ones by the libraries' products (tensor cores for 16-bit inputs).

#include <algorithm>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/gram.h"
#include "kernels/cuda/port.h"

namespace calque::cuda {
namespace {

// Kernels.

constexpr int kRowThreads = 256;
constexpr int kWarps = kRowThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A warp copies one row, or zeros where an element is not finite: such a row adds nothing to any
// sum. `target_TK` may be `source_TK`.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    copy_rows(const T* source_TK, Index stride, int rows, int cols, T* target_TK,
              unsigned long long* nonfinite_rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;  // all of the warp leaves
  const T* const from = source_TK + row * stride;
  T* const to = target_TK + static_cast<Index>(row) * cols;

  bool finite = true;
  for (int k = lane; k < cols; k += 32) finite = finite && is_finite(from[k]);
  finite = __all_sync(kAllLanes, finite);
  for (int k = lane; k < cols; k += 32) to[k] = finite ? from[k] : T{};
  if (!finite && lane == 0) atomicAdd(nonfinite_rows, 1ull);
}

constexpr int kStripe = 32;
constexpr int kSlices = 8;

// A block sums |x| over a stripe of columns, each thread over every eighth row.
template <typename T>
__global__ void __launch_bounds__(kStripe* kSlices)
    add_stripe(const T* rows_TK, Index stride, int rows, int cols, double* magnitude_K) {
  CALQUE_SHARED(double, partial, [kSlices][kStripe]);
  const int x = static_cast<int>(threadIdx.x), slice = static_cast<int>(threadIdx.y);
  const int k = static_cast<int>(blockIdx.x) * kStripe + x;

  double sum = 0;
  if (k < cols)
    for (int t = slice; t < rows; t += kSlices) sum += fabsf(widened(rows_TK[t * stride + k]));
  partial[slice][x] = sum;
  __syncthreads();
  if (slice > 0 || k >= cols) return;
  for (int other = 1; other < kSlices; ++other) sum += partial[other][x];
  magnitude_K[k] += sum;
}

constexpr int kTile = 64;             // columns and rows of a tile of the Gram matrix
constexpr int kStep = 16;             // inputs' rows in shared memory at a time
constexpr int kSide = 16;             // kSide x kSide threads,
constexpr int kEach = kTile / kSide;  // each with kEach x kEach sums in registers

template <typename T>
__device__ void load_rows(const T* rows_TK, Index stride, int rows, int cols, int first_row,
                          int first_col, float (&stripe)[kStep][kTile]) {
  const int t = static_cast<int>(threadIdx.y) * kSide + static_cast<int>(threadIdx.x);
  for (int e = t; e < kStep * kTile; e += kSide * kSide) {
    const int r = first_row + e / kTile, c = first_col + e % kTile;
    const bool inside = r < rows && c < cols;
    stripe[e / kTile][e % kTile] = inside ? widened(rows_TK[r * stride + c]) : 0.0f;
  }
}

// A block adds one tile on or above the diagonal. Sums run over all rows of the call in order.
template <typename T>
__global__ void __launch_bounds__(kSide* kSide)
    add_tile(const T* rows_TK, Index stride, int rows, int cols, float* gram_KK) {
  if (blockIdx.x < blockIdx.y) return;  // all of the block leaves
  CALQUE_SHARED(float, left, [kStep][kTile]);
  CALQUE_SHARED(float, right, [kStep][kTile]);
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int top = static_cast<int>(blockIdx.y) * kTile,
            begin = static_cast<int>(blockIdx.x) * kTile;

  float sums[kEach][kEach] = {};
  for (int first = 0; first < rows; first += kStep) {
    load_rows(rows_TK, stride, rows, cols, first, top, left);
    load_rows(rows_TK, stride, rows, cols, first, begin, right);
    __syncthreads();
#pragma unroll
    for (int t = 0; t < kStep; ++t)
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j)
          sums[i][j] = fmaf(left[t][y + i * kSide], right[t][x + j * kSide], sums[i][j]);
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int r = top + y + i * kSide, c = begin + x + j * kSide;
      if (r <= c && c < cols) gram_KK[static_cast<Index>(r) * cols + c] += sums[i][j];
    }
}

// A block clears what is left of the diagonal in one row.
__global__ void __launch_bounds__(kRowThreads) clear_left(float* gram_KK, int cols) {
  const int row = static_cast<int>(blockIdx.x);
  for (int c = static_cast<int>(threadIdx.x); c < row; c += kRowThreads)
    gram_KK[static_cast<Index>(row) * cols + c] = 0.0f;
}

// Launchers.

// From here on the libraries' products beat add_tile by far; below, a launch costs more than
// either.
constexpr Index kNarrow = 256;
// A product of the libraries has full rectangles: of each panel of rows of the Gram matrix, what is
// below its diagonal is computed in vain. At 4096 columns panels of 1024 cost 10/16 of the square.
constexpr Index kPanel = 1024;

unsigned blocks_for(Index count, Index each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

}  // namespace

template <typename T>
void copy_finite_rows(DeviceView<const T> source_TK, T* target_TK,
                      unsigned long long* nonfinite_rows, const Session& session) {
  if (source_TK.rows == 0 || source_TK.cols == 0) return;
  launch(copy_rows<T>, dim3(blocks_for(source_TK.rows, kWarps)), dim3(kRowThreads), 0,
         session.stream(), source_TK.data, source_TK.stride, source_TK.rows, source_TK.cols,
         target_TK, nonfinite_rows);
}

template <typename T>
void add_magnitudes(DeviceView<const T> rows_TK, double* magnitude_K, const Session& session) {
  if (rows_TK.cols == 0) return;
  launch(add_stripe<T>, dim3(blocks_for(rows_TK.cols, kStripe)), dim3(kStripe, kSlices), 0,
         session.stream(), rows_TK.data, rows_TK.stride, rows_TK.rows, rows_TK.cols, magnitude_K);
}

template <typename T>
void add_products(DeviceView<const T> rows_TK, DeviceView<float> gram_KK, const Session& session) {
  const Index cols = rows_TK.cols;
  if (cols == 0) return;
  if (cols < kNarrow) {
    const unsigned tiles = blocks_for(cols, kTile);
    launch(add_tile<T>, dim3(tiles, tiles), dim3(kSide, kSide), 0, session.stream(), rows_TK.data,
           rows_TK.stride, rows_TK.rows, cols, gram_KK.data);
    return;
  }
  for (Index begin = 0; begin < cols; begin += kPanel) {
    const Index width = std::min(kPanel, cols - begin), rest = cols - begin;
    const T* const first = rows_TK.data + begin;
    const DeviceView<const void> panel{first, rows_TK.rows, width, rows_TK.stride};
    const DeviceView<const void> right{first, rows_TK.rows, rest, rows_TK.stride};
    const DeviceView<float> sums{gram_KK.data + begin * cols + begin, width, rest, cols};
    session.libraries().add_transposed_product(dtype_of<T>(), panel, right, sums);
  }
}

void clear_lower(DeviceView<float> gram_KK, const Session& session) {
  if (gram_KK.rows == 0) return;
  launch(clear_left, dim3(static_cast<unsigned>(gram_KK.rows)), dim3(kRowThreads), 0,
         session.stream(), gram_KK.data, gram_KK.cols);
}

template void copy_finite_rows(DeviceView<const float>, float*, unsigned long long*,
                               const Session&);
template void add_magnitudes(DeviceView<const float>, double*, const Session&);
template void add_products(DeviceView<const float>, DeviceView<float>, const Session&);
template void copy_finite_rows(DeviceView<const BFloat16>, BFloat16*, unsigned long long*,
                               const Session&);
template void add_magnitudes(DeviceView<const BFloat16>, double*, const Session&);
template void add_products(DeviceView<const BFloat16>, DeviceView<float>, const Session&);
template void copy_finite_rows(DeviceView<const Half>, Half*, unsigned long long*, const Session&);
template void add_magnitudes(DeviceView<const Half>, double*, const Session&);
template void add_products(DeviceView<const Half>, DeviceView<float>, const Session&);

}  // namespace calque::cuda
