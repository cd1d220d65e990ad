#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>

namespace calque {

// Floating-point numbers of 4 to 8 bits, as codes of weights and of scales: a sign bit, the bits of
// the exponent, those of the mantissa. They have subnormal numbers and no infinities.
enum class SmallFloat : std::uint8_t {
  kE2M1,  // the FP4 of NVFP4 and MXFP4: 0, 0.5, 1, 1.5, 2, 3, 4, 6
  kE4M3,  // FP8 e4m3fn: up to 448; the code of ones alone is not a number
};

struct SmallFloatInfo {
  SmallFloat type;
  std::string_view name;   // "E4M3"
  std::string_view title;  // "FP8"
  int bits;
  int mantissa_bits;
  int lowest_exponent;  // normal numbers begin at 2^lowest_exponent
  float largest;

  int max_code() const { return (1 << bits) - 1; }
  int sign_code() const { return 1 << (bits - 1); }  // the code of -0
};

inline constexpr SmallFloatInfo kSmallFloats[] = {
    {SmallFloat::kE2M1, "E2M1", "FP4", 4, 1, 0, 6.0f},
    {SmallFloat::kE4M3, "E4M3", "FP8", 8, 3, -6, 448.0f},
};
constexpr const SmallFloatInfo& info_of(SmallFloat type) {
  return kSmallFloats[static_cast<int>(type)];
}

// The nearest number of the type, ties to even; what is larger than the largest becomes it. The
// sign of a zero stays, and so do not-a-numbers.
inline float rounded_to(SmallFloat type, float value) {
  const SmallFloatInfo& info = info_of(type);
  if (std::isnan(value)) return value;
  const float magnitude = std::fabs(value);
  if (magnitude >= info.largest) return std::copysign(info.largest, value);
  constexpr std::uint32_t kExponent = 0x7f800000u;
  const float power = std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) & kExponent);
  const float step = std::fmax(power, std::ldexp(1.0f, info.lowest_exponent)) *
                     std::ldexp(1.0f, -info.mantissa_bits);
  const float ones = step * 0x1.8p23f;  // the last bit of a float is one step there
  return std::copysign((magnitude + ones) - ones, value);
}

// ---- Scales that are codes themselves

// The power of two that compressed-tensors takes as the scale of numbers up to `peak`: with it they
// reach from 7/8 of the type's largest power of two (of 4, for FP4: 3.5) to twice that (7). 2^-127
// to 2^127; also for zeros the least.
inline float power_of_two_scale(SmallFloat type, float peak) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  constexpr std::uint32_t kQuarter = 0x00200000u;  // carries from a mantissa of 1.75 on
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(std::fmin(peak, 0x1p127f));
  const float power = std::bit_cast<float>((bits + kQuarter) & kExponent);
  return std::fmax(std::ldexp(power, -std::ilogb(info_of(type).largest)), 0x1p-127f);
}

// A power of two of 2^-127 to 2^127 as the byte E8M0 of the MX formats, and back; the byte 255 is
// not a number.
inline std::uint8_t e8m0_code_of(float power) {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(power) >> 23);
}
inline float e8m0_value_of(std::uint8_t code) {
  if (code == 0xff) return std::bit_cast<float>(0x7fc00000u);
  return code == 0 ? 0x1p-127f : std::bit_cast<float>(std::uint32_t{code} << 23);
}

// The FP8 number, divided by `divisor`, that stands for a scale. In the place of 0 there is 1/8, as
// in compressed-tensors; all numbers of such a group are 0 then, too.
inline float fp8_scale(float scale, float divisor) {
  const float number = rounded_to(SmallFloat::kE4M3, scale * divisor);
  return (number == 0 ? 0.125f : number) / divisor;
}

// The value of every code, by code: max_code + 1 of them.
std::span<const float> values_of(SmallFloat type);

// The code of the nearest number; `value` is a number.
std::uint8_t code_of(SmallFloat type, float value);

}  // namespace calque
