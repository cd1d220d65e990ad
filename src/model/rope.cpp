#include <algorithm>
#include <cmath>
#include <numbers>

#include "calque/model/config.h"

namespace calque::model {
namespace {

// The divisor of an inverse frequency: `factor` for wavelengths beyond the original context, 1 for
// short ones, and a blend in between.
double llama3_divisor(const RopeSpec& rope, double inverse_frequency) {
  const double wavelength = 2 * std::numbers::pi / inverse_frequency;
  const auto context = static_cast<double>(rope.original_max_positions);
  if (wavelength < context / rope.high_freq_factor) return 1.0;
  if (wavelength > context / rope.low_freq_factor) return rope.factor;
  const double smooth = (context / wavelength - rope.low_freq_factor) /
                        (rope.high_freq_factor - rope.low_freq_factor);
  return 1.0 / ((1.0 - smooth) / rope.factor + smooth);
}

// By how much each pair's inverse frequency is divided, over `channels` turned channels.
std::vector<double> yarn_divisors(const RopeSpec& rope, Index channels) {
  const auto dim = static_cast<double>(channels);
  // The pair that turns this many times in the original context.
  const auto pair_of = [&](double turns) {
    const double context = static_cast<double>(rope.original_max_positions);
    return dim * std::log(context / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
  };
  double first = pair_of(rope.beta_fast), last = pair_of(rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, dim - 1);
  if (first == last) last += 0.001;
  std::vector<double> divisors;
  for (Index i = 0; i < channels / 2; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    divisors.push_back(1.0 / (ramp / rope.factor + (1.0 - ramp)));
  }
  return divisors;
}

}  // namespace

double RopeSpec::query_factor(Index position) const {
  const Index turns = position / original_max_positions;
  return 1.0 + query_growth * std::log(1.0 + static_cast<double>(turns));
}

std::vector<double> RopeSpec::inverse_frequencies(Index head_dim, Index positions) const {
  const std::vector<double>& long_rope =
      positions > original_max_positions ? long_factors : short_factors;
  const Index dim = turned(head_dim);
  const std::vector<double> yarn =
      scaling == Scaling::kYarn ? yarn_divisors(*this, dim) : std::vector<double>();
  std::vector<double> result;
  const auto turning = static_cast<Index>(proportion * static_cast<double>(dim) / 2);
  for (Index i = 0; i < dim / 2; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(dim);
    const double plain = std::pow(theta, -exponent);
    if (scaling == Scaling::kProportional && i >= turning) {
      result.push_back(0.0);
      continue;
    }
    double divisor = 1.0;
    if (scaling == Scaling::kLinear || scaling == Scaling::kProportional) divisor = factor;
    if (scaling == Scaling::kLlama3) divisor = llama3_divisor(*this, plain);
    if (scaling == Scaling::kLongRope)  // fp32 in transformers and in GGUF
      divisor = static_cast<float>(long_rope.at(static_cast<std::size_t>(i)));
    if (scaling == Scaling::kYarn) divisor = yarn[static_cast<std::size_t>(i)];
    result.push_back(plain / divisor);
  }
  return result;
}

}  // namespace calque::model
