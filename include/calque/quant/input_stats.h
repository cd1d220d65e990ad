#pragma once

#include <vector>

#include "calque/core/matrix.h"

namespace calque::quant {

// What one input site has seen, summed over tokens. An object without tokens (`empty()`) stands for
// "not calibrated": consumers then weight all channels equally.
struct InputStats {
  Matrix<float> gram_KK;            // sum of x x^T; only the upper triangle is meaningful
  std::vector<double> magnitude_K;  // sum of |x|
  Index tokens = 0;                 // rows in the sums
  Index nonfinite_tokens = 0;       // rows left out because an element was NaN or infinite
  // Mean square of each channel instead of the sums above: from an importance matrix that somebody
  // else measured, or of a Gram matrix that was taken; empty: none.
  std::vector<float> given_mean_square_K;

  bool empty() const { return tokens == 0; }
  Index features() const { return gram_KK.rows(); }
  // Mean of x_k^2 over tokens: the diagonal of the Hessian, and GGUF's importance matrix.
  // The given one, if there is; empty if not calibrated.
  std::vector<float> mean_square_K() const;
  // For those who turn the Gram matrix into something else in its own memory. The mean squares stay
  // known, as given_mean_square_K.
  Matrix<float> take_gram();
  InputStats clone() const;
};

}  // namespace calque::quant
