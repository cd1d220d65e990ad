#pragma once

#include <cstdint>
#include <optional>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"

namespace calque::quant {

// How the inputs x~ that a site has behind the quantized layers differ from the x of the original
// model, summed over the same tokens as the site's InputStats.
struct InputShift {
  Matrix<float> cross_KK;  // sum of (x - x~) x~^T
  double energy = 0;       // sum of |x - x~|^2
};

// What a linear should compute is W x, but x~ is what it gets. Of all linear maps of x~,
//   W* = W + W A,  A = C H^-1,  C = sum (x - x~) x~^T / T,  H = sum x~ x~^T / T,
// comes nearest to it, and rounding W* instead of W under the same H is exactly the rounding that
// makes |W X - Q X~|^2 small (LoaQ, arXiv 2509.06297; algorithms.md 1.4).
struct UpstreamCorrection {
  Matrix<float> change_KK;  // A times what it is trusted
  double trust = 0;         // 0..1
};

// A fit of k coefficients to T tokens explains k / T of what is nothing but noise, too. With
//   explained = tr(C H^-1 C^T),  rest = sum |x - x~|^2 / T - explained,
// the noise has variance rest T / (T - k) and so k / (T - k) rest of `explained` is its doing;
// A is multiplied by the share that is not, 1 - k / (T - k) rest / explained, at least 0 (the
// positive-part Stein factor), and by `strength`. H = G / T + d is damped as GPTQ's is (`options`),
// which leaves k = tr(G H^-1) / T = K - d tr(H^-1) coefficients of the K. nullopt if H is not
// usable, or not more tokens than coefficients were seen. Three K x K matrices are held:
// the Gram matrix, `shift`'s, which becomes the result, and a factor.
std::optional<UpstreamCorrection> upstream_correction(const quant::InputStats& stats,
                                                      InputShift shift, double strength,
                                                      const RoundingOptions& options,
                                                      const Exec& exec);

// What it takes with the matrices that it corrects, `rows` in all; and holds beside the three
// matrices: a strip of rows being multiplied (of few channels: nothing that counts).
constexpr Cost upstream_correction_cost(Index K, Index rows) {
  const double square = static_cast<double>(K) * static_cast<double>(K);
  return {.flops = 2 * square * static_cast<double>(2 * K + rows) +
                   square * static_cast<double>(K) * 2 / 3};
}
constexpr std::uint64_t upstream_scratch_bytes(Index K) {
  return K <= kLargestInDouble
             ? 0
             : sizeof(float) * static_cast<std::uint64_t>(RoundingOptions{}.strip_weights);
}

// weight += weight change; returns |weight change| / |weight| in Frobenius norms.
double correct_upstream(const UpstreamCorrection& correction, MatrixView<float> weight_NK,
                        const Exec& exec);

}  // namespace calque::quant
