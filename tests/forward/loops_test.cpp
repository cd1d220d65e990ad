// Loops that are compiled for every machine and for AVX-512 give the same bits either way.
#include "forward/cpu/loops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

#include "calque/core/instruction_set.h"
#include "support/samples.h"

namespace calque::forward {
namespace {

// The definition: row n, column k stands in strip n / S at [k / 2][n % S][k % 2].
void expect_pairs(const Loops& loops, Index rows, Index columns, Index strip, Index pairs) {
  const Matrix<float> weight_NK = test::normal_matrix(rows, columns, 7);
  const Index strips = (rows + strip - 1) / strip;
  std::vector<BFloat16> packed(static_cast<std::size_t>(strips * strip * 2 * pairs),
                               BFloat16{0xffff});
  loops.pack_pairs(weight_NK, strip, pairs, packed.data());
  std::size_t at = 0;
  for (Index first = 0; first < strips * strip; first += strip)
    for (Index p = 0; p < pairs; ++p)
      for (Index n = first; n < first + strip; ++n)
        for (Index k = 2 * p; k < 2 * p + 2; ++k, ++at) {
          const bool there = n < rows && k < columns;
          ASSERT_EQ(packed[at].bits, to_bfloat16(there ? weight_NK(n, k) : 0.0f).bits)
              << n << ", " << k;
        }
}

TEST(PackPairs, PlacesEveryWeightAndFillsUpWithZeros) {
  for (const Index strip : {16, 32, 48, 64}) {
    expect_pairs(compiled_loops(), strip, 64, strip, 32);
    expect_pairs(compiled_loops(), 70, 131, strip, 80);
    expect_pairs(compiled_loops(), 3, 1, strip, 16);
#ifdef CALQUE_AVX512_COPY
    if (uses_avx512()) expect_pairs(avx512::compiled_loops(), 70, 131, strip, 80);
#endif
  }
}

#ifdef CALQUE_AVX512_COPY

template <typename T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(T)) == 0;
}

class LoopCopies : public testing::Test {
 protected:
  void SetUp() override {
    if (!uses_avx512()) GTEST_SKIP() << "the copy for AVX-512 is not to run here";
  }
  const Loops& common_ = compiled_loops();
  const Loops& wide_ = avx512::compiled_loops();
};

// Every 61st of the 2^32 numbers, NaNs and infinities among them (a prime, so that all low bits
// occur).
TEST_F(LoopCopies, HaveTheSameTanh) {
  constexpr std::uint64_t kStep = 61;
  constexpr Index kAtATime = 1 << 20;
  for (std::uint64_t first = 0; first >> 32 == 0; first += kStep * kAtATime) {
    Matrix<float> a(1, kAtATime);
    for (Index i = 0; i < kAtATime; ++i)
      a(0, i) = std::bit_cast<float>(
          static_cast<std::uint32_t>(first + kStep * static_cast<std::uint64_t>(i)));
    Matrix<float> b = a.clone();
    common_.cap_logits(1.0f, a);
    wide_.cap_logits(1.0f, b);
    ASSERT_TRUE(same_bits(a, b)) << "from bits " << first;
  }
}

// Scores of all sizes, and counts that leave a part of a register.
template <typename T>
void expect_same_rows(const LoopsOf<T>& common, const LoopsOf<T>& wide) {
  const Matrix<float> x = test::normal_matrix(5, 333, 91, 3.0f);
  const Matrix<float> weight = test::normal_matrix(1, 333, 92);
  Matrix<T> rounded(5, 333);
  for (Index i = 0; i < x.size(); ++i) store(x.data()[i], rounded.data()[i]);
  for (const MatrixView<const float> row : {MatrixView<const float>(), weight.view()}) {
    Matrix<T> a(5, 333), b(5, 333);
    common.rms_norm(x, {row, 1.0f, 1e-6f}, a);
    wide.rms_norm(x, {row, 1.0f, 1e-6f}, b);
    EXPECT_TRUE(same_bits(a, b));
  }
  for (const char* act : {"silu", "gelu_pytorch_tanh"}) {
    Matrix<T> a = rounded.clone(), b = rounded.clone();
    common.gate(act, rounded, a);
    wide.gate(act, rounded, b);
    EXPECT_TRUE(same_bits(a, b)) << act;
  }
  Matrix<T> clamped = rounded.clone(), clamped_wide = rounded.clone();
  common.gate_clamped(2.0f, 1.702f, rounded, clamped);
  wide.gate_clamped(2.0f, 1.702f, rounded, clamped_wide);
  EXPECT_TRUE(same_bits(clamped, clamped_wide));
  Matrix<float> a = x.clone(), b = x.clone();
  common.add(rounded, a);
  wide.add(rounded, b);
  EXPECT_TRUE(same_bits(a, b));
  for (Index count = 1; count <= 333; ++count) {
    Matrix<T> of_common(1, count), of_wide(1, count);
    EXPECT_EQ(common.soften(x.row(0), count, 0.7f, 1.3f, of_common.data()),
              wide.soften(x.row(0), count, 0.7f, 1.3f, of_wide.data()));
    EXPECT_TRUE(same_bits(of_common, of_wide)) << count;
  }
}

TEST_F(LoopCopies, HaveTheSameRowsInFloat) { expect_same_rows(common_.of_float, wide_.of_float); }
TEST_F(LoopCopies, HaveTheSameRowsInBFloat16) {
  expect_same_rows(common_.of_bfloat16, wide_.of_bfloat16);
}

#endif

}  // namespace
}  // namespace calque::forward
