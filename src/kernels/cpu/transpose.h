#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "calque/core/matrix.h"
#include "kernels/cpu/lanes.h"

namespace calque::cpu {

// Transposition of small blocks. By squares of four: every instruction set has their shuffles, and
// a row's cache line is used up before the next rows are looked at, which matters where rows are a
// multiple of 4096 bytes apart and so compete for the same lines of the cache.
using Four = float __attribute__((vector_size(16)));

inline Four load_four(const float* p) {
  Four v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void store_four(float* p, Four v) { std::memcpy(p, &v, sizeof(v)); }

// to[c][r] = from[r][c] for r, c < 4; the arguments are the addresses of both [0][0] and the
// distances between rows.
inline void transpose_square(const float* from, Index from_stride, float* to, Index to_stride) {
  const Four a = load_four(from), b = load_four(from + from_stride);
  const Four c = load_four(from + 2 * from_stride), d = load_four(from + 3 * from_stride);
  const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Four ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store_four(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store_four(to + to_stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store_four(to + 2 * to_stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store_four(to + 3 * to_stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

// to [cols, rows] = from^T.
inline void transpose(MatrixView<const float> from, MatrixView<float> to) {
  const Index rows = from.rows() / 4 * 4, cols = from.cols() / 4 * 4;
  for (Index r = 0; r < rows; r += 4)
    for (Index c = 0; c < cols; c += 4)
      transpose_square(from.row(r) + c, from.stride(), to.row(c) + r, to.stride());
  for (Index r = 0; r < from.rows(); ++r)
    for (Index c = r < rows ? cols : 0; c < from.cols(); ++c) to(c, r) = from(r, c);
}

// Rows of another type are converted a few at a time.
constexpr Index kConvertedRows = 4;

template <typename T>
void transpose(MatrixView<const T> from, MatrixView<float> to) {
  auto converted = Matrix<float>::uninitialized(kConvertedRows, from.cols());
  for (Index r = 0; r < from.rows(); r += kConvertedRows) {
    const Index count = std::min(kConvertedRows, from.rows() - r);
    for (Index i = 0; i < count; ++i)
      std::transform(from.row(r + i), from.row(r + i) + from.cols(), converted.row(i),
                     [](T x) { return static_cast<float>(x); });
    transpose(MatrixView<const float>(converted.view().rows(0, count)), to.cols(r, count));
  }
}

template <typename T>
void transpose_to_integers(MatrixView<const float> from, MatrixView<T> to) {
  auto converted = Matrix<float>::uninitialized(kConvertedRows, to.cols());
  for (Index r = 0; r < to.rows(); r += kConvertedRows) {
    const Index count = std::min(kConvertedRows, to.rows() - r);
    transpose(from.cols(r, count), converted.view().rows(0, count));
    for (Index i = 0; i < count; ++i)
      std::transform(converted.row(i), converted.row(i) + to.cols(), to.row(r + i),
                     [](float x) { return static_cast<T>(static_cast<int>(x)); });
  }
}

#ifdef __AVX512F__
// simd::transpose would do the same; these shuffles inside quarters of a register are an eighth of
// the whole search faster.
// Quarter i of the results: quarters `first` and first + 2 of a, then of b.
template <int first>
Floats quarters(Floats a, Floats b) {
  constexpr int p = 4 * first, q = p + 8;
  return __builtin_shufflevector(a, b, p, p + 1, p + 2, p + 3, q, q + 1, q + 2, q + 3, p + 16,
                                 p + 17, p + 18, p + 19, q + 16, q + 17, q + 18, q + 19);
}

// Four rows to four vectors whose quarter i holds lane 4 i + j of each row, for vector j.
inline std::array<Floats, 4> transposed_quarters(const Floats* rows) {
  const Floats a = rows[0], b = rows[1], c = rows[2], d = rows[3];
  const Floats ab_low =
      __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const Floats ab_high =
      __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const Floats cd_low =
      __builtin_shufflevector(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  const Floats cd_high =
      __builtin_shufflevector(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  const auto low = [](Floats x, Floats y) {
    return __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  };
  const auto high = [](Floats x, Floats y) {
    return __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30,
                                   31);
  };
  return {low(ab_low, cd_low), high(ab_low, cd_low), low(ab_high, cd_high), high(ab_high, cd_high)};
}

// Lane i of the result is sum(parts[i]), for the first `count` of them: as many sums at once as
// there are lanes, in the same order of additions.
inline Floats sums_of(const std::array<Floats, kLanes>& parts, std::size_t /*count*/) {
  const auto a = transposed_quarters(&parts[0]), b = transposed_quarters(&parts[4]);
  const auto c = transposed_quarters(&parts[8]), d = transposed_quarters(&parts[12]);
  Floats lanes[kLanes];
  for (int j = 0; j < 4; ++j) {
    const Floats ab_even = quarters<0>(a[j], b[j]), ab_odd = quarters<1>(a[j], b[j]);
    const Floats cd_even = quarters<0>(c[j], d[j]), cd_odd = quarters<1>(c[j], d[j]);
    lanes[j] = quarters<0>(ab_even, cd_even);
    lanes[4 + j] = quarters<0>(ab_odd, cd_odd);
    lanes[8 + j] = quarters<1>(ab_even, cd_even);
    lanes[12 + j] = quarters<1>(ab_odd, cd_odd);
  }
  Floats total{};
  for (const Floats& lane : lanes) total += lane;
  return total;
}
#else
// By squares of eight, which are the rows of one register each.
inline Floats sums_of(const std::array<Floats, kLanes>& parts, std::size_t /*count*/) {
  constexpr int kSide = 8;
  using Eight = simd::Floats<kSide>;
  Eight totals[kLanes / kSide] = {};
  for (int half = 0; half < kLanes / kSide; ++half)
    for (int from = 0; from < kLanes; from += kSide) {
      Eight rows[kSide];
      for (int r = 0; r < kSide; ++r)
        std::memcpy(&rows[r], reinterpret_cast<const float*>(&parts[half * kSide + r]) + from,
                    sizeof(rows[r]));
      simd::transpose(rows);
      for (const Eight& lane : rows) totals[half] += lane;
    }
  Floats result;
  std::memcpy(&result, totals, sizeof(result));
  return result;
}
#endif

}  // namespace calque::cpu
