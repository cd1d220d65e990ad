// Gram matrices on a GPU: rows come from the host or are there already, the sums stay there. The
// reference is kernels/cpu/gram.cpp. Narrow Gram matrices by a kernel of this file, wide ones by
// the libraries' products (tensor cores for 16-bit inputs).

#include <cuda_fp16.h>

#include <algorithm>
#include <string>

#include "calque/core/error.h"
#include "calque/kernels/gram.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/port.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {
namespace {

// ---- Elements as kernels read them

// Exact.
__device__ float as_float(float value) { return value; }
__device__ float as_float(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
__device__ float as_float(Half value) {
  __half_raw raw;
  raw.x = value.bits;
  return __half2float(raw);
}

__device__ bool is_number(float value) {
  return (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
}
__device__ bool is_number(BFloat16 value) { return (value.bits & 0x7f80u) != 0x7f80u; }
__device__ bool is_number(Half value) { return (value.bits & 0x7c00u) != 0x7c00u; }

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::kF32;
}
template <>
constexpr DType dtype_of<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType dtype_of<Half>() {
  return DType::kF16;
}

// ---- Kernels

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
  for (int k = lane; k < cols; k += 32) finite = finite && is_number(from[k]);
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
    for (int t = slice; t < rows; t += kSlices) sum += fabsf(as_float(rows_TK[t * stride + k]));
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
    stripe[e / kTile][e % kTile] = inside ? as_float(rows_TK[r * stride + c]) : 0.0f;
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

// ---- Launchers

// From here on the libraries' products beat add_tile by far; below, a launch costs more than
// either.
constexpr Index kNarrow = 256;
// A product of the libraries has full rectangles: of each panel of rows of the Gram matrix, what is
// below its diagonal is computed in vain. At 4096 columns panels of 1024 cost 10/16 of the square.
constexpr Index kPanel = 1024;

unsigned blocks_for(Index count, Index each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

// A copy without gaps, in which rows with an element that is not finite are zeros: they add nothing
// to any sum. Such rows are counted. `target_TK` may be the source if that has no gaps.
template <typename T>
void copy_finite_rows(DeviceView<const T> source_TK, T* target_TK,
                      unsigned long long* nonfinite_rows, const Session& session) {
  if (source_TK.rows == 0 || source_TK.cols == 0) return;
  launch(copy_rows<T>, dim3(blocks_for(source_TK.rows, kWarps)), dim3(kRowThreads), 0,
         session.stream(), source_TK.data, source_TK.stride, source_TK.rows, source_TK.cols,
         target_TK, nonfinite_rows);
}

// Adds sum |x| of each column, in double.
template <typename T>
void add_magnitudes(DeviceView<const T> rows_TK, double* magnitude_K, const Session& session) {
  if (rows_TK.cols == 0) return;
  launch(add_stripe<T>, dim3(blocks_for(rows_TK.cols, kStripe)), dim3(kStripe, kSlices), 0,
         session.stream(), rows_TK.data, rows_TK.stride, rows_TK.rows, rows_TK.cols, magnitude_K);
}

// Adds rows^T rows to the upper triangle of `gram_KK` (no gaps), with fp32 sums over the rows; what
// is below the diagonal is undefined afterwards.
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

// Zeros below the diagonal.
void clear_lower(DeviceView<float> gram_KK, const Session& session) {
  if (gram_KK.rows == 0) return;
  launch(clear_left, dim3(static_cast<unsigned>(gram_KK.rows)), dim3(kRowThreads), 0,
         session.stream(), gram_KK.data, gram_KK.cols);
}

// ---- Sums over blocks of rows

class DeviceSums : public GramSum::Sums {
 public:
  DeviceSums(Index features, std::shared_ptr<void> device)
      : features_(features), device_(std::move(device)) {
    const Session session = open();
    gram_KK_ = DeviceMatrix<float>(features, features);
    magnitude_K_ = DeviceMatrix<double>(1, features);
    nonfinite_rows_ = DeviceMatrix<unsigned long long>(1, 1);
    gram_KK_.fill_zero(session);
    magnitude_K_.fill_zero(session);
    nonfinite_rows_.fill_zero(session);
  }

  void start_from(MatrixView<const float> gram_KK, std::span<const double> magnitude_K) override {
    const Session session = open();
    gram_KK_.upload(gram_KK, session);
    magnitude_K_.upload({magnitude_K.data(), 1, features_}, session);
  }

  void add(MatrixView<const float> inputs_TK) override { add_host(inputs_TK); }
  void add(MatrixView<const BFloat16> inputs_TK) override { add_host(inputs_TK); }

  void add(const DeviceRows& inputs_TK) override {
    switch (inputs_TK.dtype) {
      case DType::kF32:
        return add_device<float>(inputs_TK);
      case DType::kBF16:
        return add_device<BFloat16>(inputs_TK);
      case DType::kF16:
        return add_device<Half>(inputs_TK);
      default:
        throw Error(ErrorKind::kInternal, "",
                    "GramSum: rows on a device are F32, BF16 or F16, not " +
                        std::string(name_of(inputs_TK.dtype)));
    }
  }

  GramSum::Result finish() override {
    const Session session = open();
    clear_lower(gram_KK_.view(), session);
    GramSum::Result result;
    result.gram_KK = Matrix<float>::uninitialized(features_, features_);
    gram_KK_.download(result.gram_KK, session);
    result.magnitude_K.resize(static_cast<std::size_t>(features_));
    magnitude_K_.download({result.magnitude_K.data(), 1, features_}, session);
    unsigned long long skipped = 0;
    nonfinite_rows_.download({&skipped, 1, 1}, session);
    result.count.nonfinite_rows = static_cast<Index>(skipped);
    result.count.rows = rows_ - result.count.nonfinite_rows;
    return result;
  }

 private:
  Session open() const { return Session(*static_cast<Device*>(device_.get())); }

  template <typename T>
  void add_host(MatrixView<const T> inputs_TK) {
    const Session session = open();
    for (Index begin = 0; begin < inputs_TK.rows(); begin += kGramRows) {
      const Index rows = std::min(kGramRows, inputs_TK.rows() - begin);
      T* const block = room_for<T>(rows);
      const MatrixView<const T> from = inputs_TK.rows(begin, rows);
      upload(block, from.data(), static_cast<std::size_t>(from.stride()) * sizeof(T),
             static_cast<std::size_t>(features_) * sizeof(T), rows, session.stream());
      add_block(static_cast<const T*>(block), features_, rows, session);
    }
  }

  template <typename T>
  void add_device(const DeviceRows& inputs_TK) {
    const Session session = open();
    wait_for(static_cast<cudaStream_t>(inputs_TK.stream), session);
    const T* const data = static_cast<const T*>(inputs_TK.data);
    for (Index begin = 0; begin < inputs_TK.rows; begin += kGramRows)
      add_block(data + begin * inputs_TK.stride, inputs_TK.stride,
                std::min(kGramRows, inputs_TK.rows - begin), session);
  }

  template <typename T>
  void add_block(const T* source, Index stride, Index rows, const Session& session) {
    rows_ += rows;
    T* const block = room_for<T>(rows);
    copy_finite_rows<T>({source, rows, features_, stride}, block, nonfinite_rows_.data(), session);
    const DeviceView<const T> clean_TK{block, rows, features_, features_};
    add_magnitudes(clean_TK, magnitude_K_.data(), session);
    add_products(clean_TK, gram_KK_.view(), session);
  }

  // The block's own memory; what it held may be lost.
  template <typename T>
  T* room_for(Index rows) {
    const Index bytes = rows * features_ * static_cast<Index>(sizeof(T));
    if (block_.size() < bytes) {
      block_ = {};
      block_ = DeviceMatrix<std::byte>(1, bytes);
    }
    return reinterpret_cast<T*>(block_.data());
  }

  Index features_;
  std::shared_ptr<void> device_;
  DeviceMatrix<float> gram_KK_;
  DeviceMatrix<double> magnitude_K_;
  DeviceMatrix<unsigned long long> nonfinite_rows_;
  DeviceMatrix<std::byte> block_;
  Index rows_ = 0;
};

}  // namespace

std::unique_ptr<GramSum::Sums> gram(Index features, const Exec::Backend& backend) {
  return std::make_unique<DeviceSums>(features, backend.device);
}

}  // namespace calque::cuda
