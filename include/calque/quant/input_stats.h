#pragma once

#include <vector>

#include "calque/core/matrix.h"

namespace calque::quant {

// Statistics of one input site, summed over tokens. An object without tokens (`empty()`) means "not
// calibrated": its users then weight all channels equally.
struct InputStats {
  Matrix<float> gram_KK;             // sum of x x^T; only the upper triangle is meaningful
  std::vector<double> magnitude_K;   // sum of |x|
  std::vector<float> largest_K;      // largest |x|; empty: not measured
  Index tokens = 0;                  // rows in the sums
  Index nonfinite_tokens = 0;        // rows left out because an element was NaN or infinite
  Index first_nonfinite_token = -1;  // the first of them, as GramCount::first_nonfinite_row
  // Mean square of each channel, instead of the sums above: read from an importance matrix, or
  // saved by take_gram(). Empty: not given.
  std::vector<float> given_mean_square_K;

  bool empty() const { return tokens == 0; }
  Index features() const { return gram_KK.rows(); }
  // Mean of x_k^2 over tokens: the diagonal of the Hessian, and GGUF's importance. Returns the
  // given mean squares if there are any; empty if not calibrated.
  std::vector<float> mean_square_K() const;
  // Moves out the Gram matrix so that its memory can be reused. The mean squares stay available as
  // given_mean_square_K.
  Matrix<float> take_gram();
  InputStats clone() const;
};

}  // namespace calque::quant
