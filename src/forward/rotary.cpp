#include "forward/rotary.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace calque::forward {

Rotary::Rotary(const model::RopeSpec& rope, Index head_dim, Index positions)
    : head_dim_(head_dim),
      adjacent_(rope.adjacent),
      cosines_(Matrix<float>::uninitialized(positions, rope.turned(head_dim) / 2)),
      sines_(Matrix<float>::uninitialized(positions, rope.turned(head_dim) / 2)) {
  const std::vector<double> inverse = rope.inverse_frequencies(head_dim, positions);
  for (Index p = 0; p < positions; ++p)
    for (Index i = 0; i < cosines_.cols(); ++i) {
      // The angle in fp32, as in transformers: models were trained with its rounding.
      const float angle =
          static_cast<float>(p) * static_cast<float>(inverse[static_cast<std::size_t>(i)]);
      const double scale = rope.attention_factor;
      cosines_(p, i) = static_cast<float>(scale * std::cos(static_cast<double>(angle)));
      sines_(p, i) = static_cast<float>(scale * std::sin(static_cast<double>(angle)));
    }
}

void Rotary::turn(const float* x, Index position, float* out) const {
  const Index half = cosines_.cols();
  const float* const cosine = cosines_.row(position);
  const float* const sine = sines_.row(position);
  if (adjacent_) {
    for (Index i = 0; i < half; ++i) {
      out[2 * i] = x[2 * i] * cosine[i] - x[2 * i + 1] * sine[i];
      out[2 * i + 1] = x[2 * i + 1] * cosine[i] + x[2 * i] * sine[i];
    }
  } else {
    for (Index i = 0; i < half; ++i) {
      out[i] = x[i] * cosine[i] - x[half + i] * sine[i];
      out[half + i] = x[half + i] * cosine[i] + x[i] * sine[i];
    }
  }
  std::copy(x + 2 * half, x + head_dim_, out + 2 * half);
}

}  // namespace calque::forward
