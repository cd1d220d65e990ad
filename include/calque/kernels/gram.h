#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "calque/core/cost.h"
#include "calque/core/device_rows.h"
#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

struct GramCount {
  Index rows = 0;            // rows that entered the sum
  Index nonfinite_rows = 0;  // rows skipped because an element was NaN or infinite
  // Index of the first of these among all rows that were added; -1: none, or added on a GPU.
  Index first_nonfinite_row = -1;
};

// Adds inputs^T * inputs to `gram_KK`: the Gram matrix of the inputs of one site, summed (not
// averaged) over tokens; and sum |x| to `magnitude_K` (K sums per channel). Rows with a non-finite
// element are skipped and counted. Sums in fp32 over fixed blocks of rows, so the result does not
// depend on the number of threads. `gram_KK` must be K x K; only its upper triangle (row <= column)
// is written. Products of bf16 inputs are exact in fp32.
GramCount accumulate_gram(MatrixView<const float> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec);
GramCount accumulate_gram(MatrixView<const BFloat16> inputs_TK, MatrixView<float> gram_KK,
                          std::span<double> magnitude_K, const Exec& exec);

// A Gram matrix that grows with many calls and stays where it is computed (a GPU's memory is
// crossed once, at the end). The sums are those of accumulate_gram over the same calls.
class GramSum {
 public:
  struct Result {
    Matrix<float> gram_KK;
    std::vector<double> magnitude_K;
    GramCount count;
  };
  GramSum(Index features, const Exec& exec);
  ~GramSum();
  GramSum(GramSum&&) noexcept;

  void add(MatrixView<const float> inputs_TK);
  void add(MatrixView<const BFloat16> inputs_TK);
  // Rows on this very device; Error(kInternal) on another one or on the CPU.
  void add(const DeviceRows& inputs_TK);
  Result finish();  // nothing is left to add to afterwards

  class Sums;  // src/kernels/gram_sums.h

 private:
  std::unique_ptr<Sums> sums_;
};

// tr(X G X^T) = sum over the rows x of x^T G x for X [N, K], reading the upper triangle of
// `gram_KK`. fp32 products, summed in double. Cost N K^2. Does not depend on the number of threads.
double gram_energy(MatrixView<const float> rows_NK, MatrixView<const float> gram_KK,
                   const Exec& exec);

// Inputs enter the sum in blocks of this many rows, counted from the first row of a call: enough to
// spread the cost of a pass over the Gram matrix; 32 MiB of fp32 at 4096 channels. Callers that
// gather blocks of this size get sums that do not depend on how their rows came.
inline constexpr Index kGramRows = 2048;

constexpr Cost gram_cost(double rows, Index K) {
  const auto channels = static_cast<double>(K);
  return {.flops = channels * (channels + 1) * rows, .elements = channels * rows};
}

// bfloat16 rows are widened where the processor does not multiply them fast.
constexpr std::uint64_t gram_scratch_bytes(Index K, bool bfloat16) {
  return bfloat16 ? sizeof(float) * static_cast<std::uint64_t>(kGramRows * K) : 0;
}

// Half of the products: the Gram matrix is symmetric.
constexpr Cost gram_energy_cost(Index N, Index K) {
  return {.flops = static_cast<double>(N) * static_cast<double>(K) * static_cast<double>(K)};
}

}  // namespace calque
