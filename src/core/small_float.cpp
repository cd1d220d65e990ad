#include "calque/core/small_float.h"

#include <array>
#include <limits>

namespace calque {
namespace {

constexpr int kMostCodes = 256;

std::array<float, kMostCodes> table_of(const SmallFloatInfo& info) {
  std::array<float, kMostCodes> values{};
  const int mantissas = 1 << info.mantissa_bits;
  for (int code = 0; code <= info.max_code(); ++code) {
    const int exponent = (code % info.sign_code()) / mantissas;
    const int mantissa = code % mantissas;
    const float whole =
        exponent == 0 ? static_cast<float>(mantissa) : static_cast<float>(mantissas + mantissa);
    const int power = info.lowest_exponent + (exponent == 0 ? 0 : exponent - 1);
    const float magnitude = std::ldexp(whole, power - info.mantissa_bits);
    const float value =
        magnitude > info.largest ? std::numeric_limits<float>::quiet_NaN() : magnitude;
    values[static_cast<std::size_t>(code)] = code >= info.sign_code() ? -value : value;
  }
  return values;
}

}  // namespace

std::span<const float> values_of(SmallFloat type) {
  static const auto kTables = [] {
    std::array<std::array<float, kMostCodes>, std::size(kSmallFloats)> tables{};
    for (const SmallFloatInfo& info : kSmallFloats)
      tables[static_cast<std::size_t>(info.type)] = table_of(info);
    return tables;
  }();
  return std::span(kTables[static_cast<std::size_t>(type)])
      .first(static_cast<std::size_t>(info_of(type).max_code()) + 1);
}

std::uint8_t code_of(SmallFloat type, float value) {
  const SmallFloatInfo& info = info_of(type);
  const float level = rounded_to(type, value);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(std::fabs(level));
  const int shift = 23 - info.mantissa_bits;
  // 126 is the exponent field of floats below that of 2^0: subnormal numbers have the field 0 here.
  const std::uint32_t normal =
      (bits >> shift) -
      (static_cast<std::uint32_t>(126 + info.lowest_exponent) << info.mantissa_bits);
  const float smallest = std::ldexp(1.0f, info.lowest_exponent);
  const std::uint32_t code =
      std::fabs(level) < smallest
          ? static_cast<std::uint32_t>(std::fabs(level) *
                                       std::ldexp(1.0f, info.mantissa_bits - info.lowest_exponent))
          : normal;
  return static_cast<std::uint8_t>(code + (std::signbit(level) ? info.sign_code() : 0u));
}

}  // namespace calque
