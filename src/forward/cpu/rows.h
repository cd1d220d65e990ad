#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

// Arithmetic on single numbers and rows, in fp32 whatever T (float or BFloat16) stores; loops over
// them become vector instructions.
namespace calque::forward {

// Memory that grows to the largest matrix asked of it. Contents are undefined after each request.
template <typename T>
class Buffer {
 public:
  MatrixView<T> matrix(Index rows, Index cols) {
    if (rows * cols > memory_.size()) memory_ = Matrix<T>::uninitialized(1, rows * cols);
    return {memory_.data(), rows, cols};
  }

 private:
  Matrix<T> memory_;
};

inline constexpr float kLog2E = 1.44269504f;

// a * b + c, in one rounding where the processor does that in one instruction.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// 2^x within 4 units in the last place, for x clamped to [-126, 126] (below, 2^x would be
// denormal). x = n + r with |r| <= 1/2, exactly; 2^r by the Taylor series of e^(r ln 2) to r^6: the
// next term is at most (ln 2 / 2)^7 / 7! = 2^-23 of the sum.
inline float power_of_two(float x) {
  constexpr float kOnes = 0x1.8p23f;  // added and taken away: rounds to the nearest integer
  x = x < -126.0f ? -126.0f : x;
  x = x > 126.0f ? 126.0f : x;
  const float shifted = x + kOnes;
  const float r = x - (shifted - kOnes);
  float series = 1.54035304e-4f;  // (ln 2)^k / k!, k = 6 .. 0
  series = multiply_add(series, r, 1.33335581e-3f);
  series = multiply_add(series, r, 9.61812911e-3f);
  series = multiply_add(series, r, 5.55041087e-2f);
  series = multiply_add(series, r, 2.40226507e-1f);
  series = multiply_add(series, r, 6.93147181e-1f);
  series = multiply_add(series, r, 1.0f);
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;  // n, modulo 2^9
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(series) + exponent);
}

// x times the logistic function of x. The rounding of x log2(e) moves e^-x by |x| 2^-24 of itself.
inline float silu(float x) { return x / (1.0f + power_of_two(-kLog2E * x)); }

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

// A norm ready to be applied: rows are multiplied by `offset` + weight, or where there is no weight
// by nothing more.
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
  if (weight == nullptr) {
    for (Index i = 0; i < count; ++i) store(x[i] * inverse, out[i]);
    return;
  }
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
