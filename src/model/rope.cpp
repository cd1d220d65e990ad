#include <cmath>
#include <numbers>

#include "calque/model/config.h"

namespace calque::model {
namespace {

// What an inverse frequency is divided by: `factor` for wavelengths beyond the original context, 1
// for short ones, and a blend between.
double llama3_divisor(const RopeSpec& rope, double inverse_frequency) {
  const double wavelength = 2 * std::numbers::pi / inverse_frequency;
  const auto context = static_cast<double>(rope.original_max_positions);
  if (wavelength < context / rope.high_freq_factor) return 1.0;
  if (wavelength > context / rope.low_freq_factor) return rope.factor;
  const double smooth = (context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return 1.0 / ((1.0 - smooth) / rope.factor + smooth);
}

}  // namespace

std::vector<double> RopeSpec::inverse_frequencies(Index head_dim, Index positions) const {
  const std::vector<double>& long_rope =
      positions > original_max_positions ? long_factors : short_factors;
  std::vector<double> result;
  for (Index i = 0; i < head_dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(head_dim);
    const double plain = std::pow(theta, -exponent);
    double divisor = 1.0;
    if (scaling == Scaling::kLinear) divisor = factor;
    if (scaling == Scaling::kLlama3) divisor = llama3_divisor(*this, plain);
    if (scaling == Scaling::kLongRope) divisor = long_rope.at(static_cast<std::size_t>(i));
    result.push_back(plain / divisor);
  }
  return result;
}

}  // namespace calque::model
