#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "calque/core/finite.h"
#include "kernels/cpu/gram_product.h"
#include "kernels/cpu/kernels.h"

namespace calque::cpu {
namespace {

// Inputs enter the sums in blocks of this many rows, counted from the first row of a call.
constexpr Index kBlockRows = 2048;
constexpr Index kStripeColumns = 64;

// Rows of `inputs_TK` without NaN and infinity.
template <typename T>
std::vector<Index> finite_rows(MatrixView<const T> inputs_TK, const Workers& workers) {
  constexpr Index kRowsATask = 64;
  std::vector<char> finite(static_cast<std::size_t>(inputs_TK.rows()));
  workers.for_each((inputs_TK.rows() + kRowsATask - 1) / kRowsATask, [&](Index task) {
    const Index end = std::min(inputs_TK.rows(), (task + 1) * kRowsATask);
    for (Index t = task * kRowsATask; t < end; ++t)
      finite[t] = all_finite<T>(inputs_TK.row_span(t));
  });
  std::vector<Index> rows;
  for (Index t = 0; t < inputs_TK.rows(); ++t)
    if (finite[t]) rows.push_back(t);
  return rows;
}

template <typename T>
Matrix<T> selected_rows(MatrixView<const T> source, const std::vector<Index>& rows) {
  Matrix<T> selection = Matrix<T>::uninitialized(static_cast<Index>(rows.size()), source.cols());
  for (std::size_t r = 0; r < rows.size(); ++r)
    std::copy_n(source.row(rows[r]), source.cols(), selection.row(static_cast<Index>(r)));
  return selection;
}

using Doubles = double __attribute__((vector_size(8 * sizeof(double))));
using Halves = float __attribute__((vector_size(8 * sizeof(float))));
using Words = std::uint32_t __attribute__((vector_size(8 * sizeof(float))));

Halves load_eight(const float* values) {
  Halves result;
  std::memcpy(&result, values, sizeof(result));
  return result;
}
Halves load_eight(const BFloat16* values) {
  std::uint16_t __attribute__((vector_size(8 * sizeof(BFloat16)))) bits;
  std::memcpy(&bits, values, sizeof(bits));
  return std::bit_cast<Halves>(__builtin_convertvector(bits, Words) << 16);
}

// sums += |row| of `kVectors` times eight columns, row by row; the sums stay in registers, where a
// loop of single additions would load and store them for every row.
template <Index kVectors, typename T>
void add_magnitudes(MatrixView<const T> rows_TK, double* sums) {
  std::array<Doubles, kVectors> totals;
  std::memcpy(totals.data(), sums, sizeof(totals));
  for (Index t = 0; t < rows_TK.rows(); ++t)
    for (std::size_t v = 0; v < kVectors; ++v) {
      const Words bits = std::bit_cast<Words>(load_eight(rows_TK.row(t) + 8 * v));
      const Halves magnitudes = std::bit_cast<Halves>(bits & 0x7fffffffu);
      totals[v] += __builtin_convertvector(magnitudes, Doubles);
    }
  std::memcpy(sums, totals.data(), sizeof(totals));
}

// magnitude_K plus those of the block.
template <typename T>
std::vector<double> added_magnitudes(std::span<const double> magnitude_K,
                                     MatrixView<const T> block_TK, const Workers& workers) {
  std::vector<double> sums_K(magnitude_K.begin(), magnitude_K.end());
  const Index columns = block_TK.cols();
  workers.for_each((columns + kStripeColumns - 1) / kStripeColumns, [&](Index stripe) {
    const Index begin = stripe * kStripeColumns;
    const Index width = std::min(kStripeColumns, columns - begin);
    double* sums = sums_K.data() + begin;
    const MatrixView<const T> columns_TK = block_TK.cols(begin, width);
    if (width == kStripeColumns) return add_magnitudes<kStripeColumns / 8>(columns_TK, sums);
    for (Index t = 0; t < block_TK.rows(); ++t)
      for (Index k = 0; k < width; ++k) sums[k] += std::abs(widened(columns_TK(t, k)));
  });
  return sums_K;
}

Matrix<float> widened_rows(MatrixView<const BFloat16> inputs_TK, const Workers& workers) {
  auto wide_TK = Matrix<float>::uninitialized(inputs_TK.rows(), inputs_TK.cols());
  workers.for_each(inputs_TK.rows(), [&](Index t) {
    const BFloat16* source = inputs_TK.row(t);
    float* target = wide_TK.row(t);
    for (Index k = 0; k < inputs_TK.cols(); ++k) target[k] = to_float(source[k]);
  });
  return wide_TK;
}

// Whether bf16 products are worth it. AMX: yes. AVX512_BF16 alone: twice fp32 on AMD (Zen 4: 205
// against 88 GFLOP/s a core), half of it on Intel (87 against 156). Both ways the products are
// exact and the sums fp32.
bool multiplies_bf16_fast() {
  const dnnl::cpu_isa isa = dnnl::get_effective_cpu_isa();
  if (isa == dnnl::cpu_isa::avx512_core_amx) return true;
  return isa == dnnl::cpu_isa::avx512_core_bf16 && __builtin_cpu_is("amd");
}

template <typename T>
class Accumulation {
 public:
  Accumulation(std::span<double> magnitude_K, const Workers& workers)
      : magnitude_K_(magnitude_K), workers_(workers) {}

  // Calls add(rows) with the finite rows of each block.
  template <typename AddProducts>
  GramCount run(MatrixView<const T> inputs_TK, const AddProducts& add) {
    for (Index begin = 0; begin < inputs_TK.rows(); begin += kBlockRows) {
      const auto block = inputs_TK.rows(begin, std::min(kBlockRows, inputs_TK.rows() - begin));
      if (add_magnitudes(block))
        add(block);
      else
        add(finite_part(block).view());
    }
    count_.rows = inputs_TK.rows() - count_.nonfinite_rows;
    return count_;
  }

 private:
  // A sum of magnitudes is finite if and only if all of them are: floats cannot overflow a double.
  bool add_magnitudes(MatrixView<const T> block_TK) {
    const std::vector<double> sums_K = added_magnitudes<T>(magnitude_K_, block_TK, workers_);
    for (const double sum : sums_K)
      if (!std::isfinite(sum)) return false;
    std::copy(sums_K.begin(), sums_K.end(), magnitude_K_.begin());
    return true;
  }

  Matrix<T> finite_part(MatrixView<const T> block_TK) {
    const std::vector<Index> rows = finite_rows(block_TK, workers_);
    count_.nonfinite_rows += block_TK.rows() - static_cast<Index>(rows.size());
    Matrix<T> selection = selected_rows(block_TK, rows);
    add_magnitudes(selection);
    return selection;
  }

  std::span<double> magnitude_K_;
  const Workers& workers_;
  GramCount count_;
};

}  // namespace

GramCount accumulate_gram_f32(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                              std::span<double> magnitude_K, const Exec::Backend& backend) {
  const Workers& workers = backend.workers;
  return Accumulation<float>(magnitude_K, workers)
      .run(inputs_TK, [&](MatrixView<const float> rows) { add_gram(rows, gram_KK, workers); });
}

GramCount accumulate_gram_bf16(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                               std::span<double> magnitude_K, const Exec::Backend& backend) {
  const Workers& workers = backend.workers;
  return Accumulation<BFloat16>(magnitude_K, workers)
      .run(inputs_TK, [&](MatrixView<const BFloat16> rows) {
        if (multiplies_bf16_fast()) return add_gram(rows, gram_KK, workers);
        add_gram(widened_rows(rows, workers).view(), gram_KK, workers);
      });
}

}  // namespace calque::cpu
