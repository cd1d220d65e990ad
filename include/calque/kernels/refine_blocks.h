#pragma once

#include <span>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/ggml/blocks.h"

namespace calque {

struct RefineBlocks {
  MatrixView<const float> weight_NK;
  // Symmetric with both triangles filled; empty: the identity, and no products with it.
  MatrixView<const float> hessian_KK;
  const ggml::Structure& structure;
  int passes = 1;
  ggml::Fields& fields;        // in and out
  std::span<double> losses_N;  // out: what each row reached
};

// Lowers tr(E H E^T), E = weight - value, of rows of GGUF blocks: codes, scale codes and steps.
// A pass visits the super-blocks from left to right, and in each
//   group after group: every code moves to the nearest level to the minimizer of the loss in that
//     coordinate; then scale and minimum code together to the best integers near the minimizer of
//     the quadratic a A + b B, A = the levels of the codes, B = 1,
//   then the super-block's steps likewise to their least-squares values, rounded to binary16.
// Every move is kept only if it lowers the loss of its row, so passes never raise it beyond the
// rounding of sums. Cost about N K (K + 500) multiply-adds a pass and N K^2 once, fp32. Does not
// depend on the number of threads.
void refine_blocks(const RefineBlocks& task, const Exec& exec);

// Multiply-adds a weight and pass that choosing scale codes takes, whatever K is.
inline constexpr double kScaleCodeSearch = 500;

// With a Hessian, and without.
constexpr Cost refine_blocks_cost(Index N, Index K, int passes) {
  const auto columns = static_cast<double>(K);
  return {.flops = 2 * static_cast<double>(N) * columns *
                   (columns + (columns + kScaleCodeSearch) * passes)};
}
constexpr Cost refine_blocks_alone_cost(Index N, Index K, int passes) {
  return {.flops = 2 * static_cast<double>(N) * static_cast<double>(K) * kScaleCodeSearch * passes};
}

}  // namespace calque
