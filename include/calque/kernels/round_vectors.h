#pragma once

#include <span>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/ggml/blocks.h"

namespace calque {

struct RoundVectors {
  MatrixView<const float> weight_NK;
  MatrixView<const float> hessian_KK;  // symmetric with both triangles filled
  const ggml::VectorStructure& structure;
  // The sweep: U with H^-1 = U^T U (inverse_cholesky.h), its columns in the order in which
  // `order_E` visits runs of eight columns. Empty: no sweep, the codes of `fields` are the start.
  MatrixView<const float> inverse_factor_KK;
  std::span<const Index> order_E;
  int passes = 1;              // refinements
  ggml::VectorFields& fields;  // in and out
  std::span<double> losses_N;  // out: what each row reached
};

// Lowers tr(E H E^T), E = weight - value, of rows of GGUF blocks whose codes are vectors.
// The sweep is GPTQ with runs B of eight columns in the place of one (block LDL): on the scales of
// `fields`,
//   value_B = the vectors near weight_B,  e = (weight_B - value_B) U_BB^-1,
//   weight_j -= e U_Bj for j behind B.
// Near means d A d^T, d = weight_B - value_B, with A = U_BB^-1 U_BB^-T (src/quant/README.md has the
// search). Distances are compared to 12 bits.
// A pass of refinement visits the super-blocks from left to right, and in each
//   run after run: the vectors near the minimizers of the loss in each coordinate,
//   group after group: the scale code nearest to the minimizer,
//   then the super-block's step, rounded to binary16;
// every move is kept only if it lowers the loss of its row, so passes never raise it beyond the
// rounding of sums. Shifts of more than eight columns stay as they are. fp32; about
// N K (K + 256) multiply-adds a pass and N K^2 once, and the search of vectors
// (round_vectors_cost). Does not depend on the number of threads.
void round_vectors(const RoundVectors& task, const Exec& exec);

// With a sweep. Each vector is compared with all points: with short lists in 5.5 multiply-adds an
// element, with long ones in 2 (kernels/cpu/round_vectors.cpp), about twice for signs.
constexpr Cost round_vectors_cost(Index N, Index K, int passes, int points) {
  const auto columns = static_cast<double>(K);
  const double search = (points > 256 ? 4.0 : 11.0) * static_cast<double>(points);
  return {.flops = static_cast<double>(N) * columns *
                   (3 * columns + 2 * (columns + 256) * passes + (1 + passes) * search)};
}

}  // namespace calque
