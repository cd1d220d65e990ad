#include "calque/quant/input_stats.h"

#include <utility>

namespace calque::quant {

std::vector<float> InputStats::mean_square_K() const {
  if (!given_mean_square_K.empty()) return given_mean_square_K;
  std::vector<float> mean_square;
  if (empty()) return mean_square;
  mean_square.reserve(static_cast<std::size_t>(features()));
  for (Index k = 0; k < features(); ++k)
    mean_square.push_back(gram_KK(k, k) / static_cast<float>(tokens));
  return mean_square;
}

Matrix<float> InputStats::take_gram() {
  given_mean_square_K = mean_square_K();
  return std::move(gram_KK);
}

InputStats InputStats::clone() const {
  return {.gram_KK = gram_KK.clone(),
          .magnitude_K = magnitude_K,
          .largest_K = largest_K,
          .tokens = tokens,
          .nonfinite_tokens = nonfinite_tokens,
          .first_nonfinite_token = first_nonfinite_token,
          .given_mean_square_K = given_mean_square_K};
}

}  // namespace calque::quant
