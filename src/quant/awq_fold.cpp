#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <initializer_list>

#include "calque/core/error.h"
#include "calque/quant/awq.h"

namespace calque::quant {
namespace {

void expect_length(std::string_view what, std::size_t length, Index expected) {
  if (static_cast<Index>(length) == expected) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{} {} do not fit a matrix of {}", length, what, expected));
}

float held_by(float value, DType dtype) {
  std::byte bytes[8];
  convert_from_float(&value, dtype, 1, bytes);
  float held = 0;
  convert_to_float(bytes, dtype, 1, &held);
  return held;
}

// The number of `dtype` next to `value` (one of them, not zero), away from zero or towards it.
float neighbour(float value, DType dtype, int direction) {
  if (dtype == DType::kF16)
    return to_float(Half{static_cast<std::uint16_t>(to_half(value).bits + direction)});
  if (dtype == DType::kBF16)
    return to_float(BFloat16{static_cast<std::uint16_t>(to_bfloat16(value).bits + direction)});
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) +
                              static_cast<std::uint32_t>(direction));
}

// The factor that a norm's entry stands for.
double factor_of(float norm, bool plus_one) {
  return plus_one ? 1.0 + static_cast<double>(norm) : static_cast<double>(norm);
}

}  // namespace

quant::InputStats rescaled(quant::InputStats stats, std::span<const float> scales_K) {
  expect_length("scales", scales_K.size(), stats.features());
  for (Index i = 0; i < stats.features(); ++i) {
    const float row_scale = scales_K[static_cast<std::size_t>(i)];
    float* row = stats.gram_KK.row(i);
    for (Index j = i; j < stats.features(); ++j) row[j] = row[j] / row_scale / scales_K[j];
  }
  for (std::size_t k = 0; k < stats.magnitude_K.size(); ++k)
    stats.magnitude_K[k] /= static_cast<double>(scales_K[k]);
  return stats;
}

void multiply_columns(MatrixView<float> weight_NK, std::span<const float> scales_K) {
  expect_length("scales", scales_K.size(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n)
    for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK.row(n)[k] *= scales_K[k];
}

void divide_columns(MatrixView<float> weight_NK, std::span<const float> scales_K) {
  expect_length("scales", scales_K.size(), weight_NK.cols());
  for (Index n = 0; n < weight_NK.rows(); ++n)
    for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK.row(n)[k] /= scales_K[k];
}

float nearest_power_of_two(float value) {
  if (!(value > 0) || !std::isfinite(value)) return 1.0f;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // in [1/2, 1)
  constexpr float kRootOfHalf = 0x1.6a09e6p-1f;
  return std::ldexp(1.0f, fraction < kRootOfHalf ? exponent - 1 : exponent);
}

// Around norm / proposed, the numbers that the file can hold are one step apart; each belongs to
// one scale.
float exact_norm_scale(float norm, bool plus_one, DType dtype, float proposed) {
  const double factor = factor_of(norm, plus_one);
  if (factor == 0 || !(proposed > 0) || !std::isfinite(proposed)) return 1.0f;
  const double wanted = factor / static_cast<double>(proposed) - (plus_one ? 1.0 : 0.0);
  const float nearest = held_by(static_cast<float>(wanted), dtype);
  float best = 1.0f;
  double distance = -1;
  const auto consider = [&](float stored) {
    const float scale = static_cast<float>(factor / factor_of(stored, plus_one));
    if (!std::isnormal(scale) || scale < 0) return;
    const double away = std::abs(static_cast<double>(scale) - static_cast<double>(proposed));
    if (distance >= 0 && away >= distance) return;
    best = scale;
    distance = away;
  };
  consider(nearest);
  if (nearest == 0) return best;
  for (const int direction : {-1, 1}) consider(neighbour(nearest, dtype, direction));
  return best;
}

void divide_rows(QuantizedMatrix& q, std::span<const float> divisors_N) {
  expect_length("divisors", divisors_N.size(), q.out_features());
  if (q.grid.block)
    throw Error(ErrorKind::kInternal, "",
                fmt::format("rows of {} cannot be divided", q.grid.description()));
  const ScalePrecision precision = q.grid.precision;
  for (Index n = 0; n < q.out_features(); ++n) {
    const float divisor = divisors_N[static_cast<std::size_t>(n)];
    for (Index g = 0; g < q.scales_NG.cols(); ++g) {
      float& scale = q.scales_NG(n, g);
      float& offset = q.offsets_NG(n, g);
      const float zero = scale == 0 ? 0.0f : std::rint(-offset / scale);
      scale = rounded_scale(scale / divisor, precision);
      offset = q.grid.offset_kind == OffsetKind::kMinimum
                   ? rounded_offset(offset / divisor, precision)
                   : -scale * zero;
    }
  }
}

}  // namespace calque::quant
