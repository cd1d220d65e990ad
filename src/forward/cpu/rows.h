#pragma once

#include <array>
#include <cmath>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

// Arithmetic on single rows, in fp32 whatever T (float or BFloat16) stores.
namespace calque::forward {

inline void store(float value, float& out) { out = value; }
inline void store(float value, BFloat16& out) { out = to_bfloat16(value); }

// Sixteen partial sums: fixed order, and the compiler makes one AVX-512 register of them.
inline float mean_square(const float* x, Index count) {
  constexpr Index kLanes = 16;
  std::array<float, kLanes> partial{};
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes)
    for (Index j = 0; j < kLanes; ++j) partial[static_cast<std::size_t>(j)] += x[i + j] * x[i + j];
  float sum = 0;
  for (const float lane : partial) sum += lane;
  for (Index i = whole; i < count; ++i) sum += x[i] * x[i];
  return sum / static_cast<float>(count);
}

// A norm's weight; rows are multiplied by `offset` + weight.
struct NormWeight {
  MatrixView<const float> weight_1N;
  float offset = 0;
  float eps = 0;
};

// out = x / sqrt(mean(x^2) + eps) * (offset + weight). `out` may be `x`.
template <typename T>
void rms_norm(const float* x, const NormWeight& norm, Index count, T* out) {
  const float inverse = 1.0f / std::sqrt(mean_square(x, count) + norm.eps);
  const float* const weight = norm.weight_1N.data();
  for (Index i = 0; i < count; ++i) store(x[i] * inverse * (norm.offset + weight[i]), out[i]);
}

template <typename T>
void rms_norm_rows(MatrixView<const float> x_TH, const NormWeight& norm, MatrixView<T> out_TH) {
  for (Index t = 0; t < x_TH.rows(); ++t) rms_norm(x_TH.row(t), norm, x_TH.cols(), out_TH.row(t));
}

template <typename T>
void widen_rows(MatrixView<const T> values_TH, MatrixView<float> out_TH) {
  for (Index t = 0; t < out_TH.rows(); ++t)
    for (Index i = 0; i < out_TH.cols(); ++i) out_TH(t, i) = widened(values_TH(t, i));
}

template <typename T>
void add_rows(MatrixView<const T> values_TH, MatrixView<float> sum_TH) {
  for (Index t = 0; t < sum_TH.rows(); ++t) {
    const T* const from = values_TH.row(t);
    float* const to = sum_TH.row(t);
    for (Index i = 0; i < sum_TH.cols(); ++i) to[i] += widened(from[i]);
  }
}

}  // namespace calque::forward
