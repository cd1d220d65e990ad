#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

// Functions of single numbers, written so that a loop over them becomes vector instructions.
namespace calque::forward {

inline constexpr float kLog2E = 1.44269504f;

// a * b + c, in one rounding where the processor does that in one instruction.
inline float multiply_add(float a, float b, float c) {
#ifdef __FMA__
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

// 2^x within 4 units in the last place, for x clamped to [-126, 126] (below, 2^x would be
// denormal). x = n + r with |r| <= 1/2, exactly; 2^r by the Taylor series of e^(r ln 2) to r^6: the
// next term is at most (ln 2 / 2)^7 / 7! = 2^-23 of the sum.
inline float power_of_two(float x) {
  constexpr float kOnes = 0x1.8p23f;  // added and taken away: rounds to the nearest integer
  x = x < -126.0f ? -126.0f : x;
  x = x > 126.0f ? 126.0f : x;
  const float shifted = x + kOnes;
  const float r = x - (shifted - kOnes);
  float series = 1.54035304e-4f;  // (ln 2)^k / k!, k = 6 .. 0
  series = multiply_add(series, r, 1.33335581e-3f);
  series = multiply_add(series, r, 9.61812911e-3f);
  series = multiply_add(series, r, 5.55041087e-2f);
  series = multiply_add(series, r, 2.40226507e-1f);
  series = multiply_add(series, r, 6.93147181e-1f);
  series = multiply_add(series, r, 1.0f);
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;  // n, modulo 2^9
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(series) + exponent);
}

// x times the logistic function of x. The rounding of x log2(e) moves e^-x by |x| 2^-24 of itself.
inline float silu(float x) { return x / (1.0f + power_of_two(-kLog2E * x)); }

}  // namespace calque::forward
