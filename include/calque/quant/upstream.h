#pragma once

#include <cstdint>
#include <optional>

#include "calque/core/cost.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"

namespace calque::quant {

// The difference between the inputs x~ of a site behind quantized layers and the inputs x of the
// original model, summed over the same tokens as the site's InputStats.
struct InputShift {
  Matrix<float> cross_KK;  // sum of (x - x~) x~^T
  double energy = 0;       // sum of |x - x~|^2
};

// A linear should compute W x but receives x~. Of all linear maps of x~,
//   W* = W + W A,  A = C H^-1,  C = sum (x - x~) x~^T / T,  H = sum x~ x~^T / T,
// comes nearest to W x, and rounding W* instead of W under the same H minimizes |W X - Q X~|^2
// (LoaQ, arXiv 2509.06297; src/quant/README.md, "Upstream correction").
struct UpstreamCorrection {
  Matrix<float> change_KK;  // A times `trust`
  double trust = 0;         // 0..1
};

// A fit of k coefficients to T tokens also explains k / T of pure noise. With
//   explained = tr(C H^-1 C^T),  rest = sum |x - x~|^2 / T - explained,
// the noise has variance rest T / (T - k), and k / (T - k) rest of `explained` is due to it. A is
// multiplied by the remaining share, 1 - k / (T - k) rest / explained, at least 0 (the
// positive-part Stein factor), and by `strength`. H = G / T + d is damped as in GPTQ (`options`),
// which leaves k = tr(G H^-1) / T = K - d tr(H^-1) of the K coefficients. nullopt if H is not
// usable, or if no more tokens than coefficients were seen. Holds three K x K matrices: the Gram
// matrix, `shift`'s, which becomes the result, and a factor.
std::optional<UpstreamCorrection> upstream_correction(const quant::InputStats& stats,
                                                      InputShift shift, double strength,
                                                      const RoundingOptions& options,
                                                      const Exec& exec);

// Cost of the correction with all matrices that it corrects (`rows` rows in total), and bytes held
// besides the three matrices: one strip of rows (with few channels, nothing that counts).
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

// weight += weight * change; returns |weight * change| / |weight| in Frobenius norms.
double correct_upstream(const UpstreamCorrection& correction, MatrixView<float> weight_NK,
                        const Exec& exec);

}  // namespace calque::quant
