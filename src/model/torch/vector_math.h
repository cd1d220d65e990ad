#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

// Functions of single numbers, written so that a loop over them becomes vector instructions.
namespace calque::model {

// e^x within 4 units in the last place, for x clamped to [-87, 88] (below, e^x would be denormal).
// x = n ln 2 + r with ln 2 in two pieces (Cody and Waite), e^r by its Taylor series to r^7: the
// next term is below 2^-27 of the sum for |r| <= ln 2 / 2.
inline float exponential(float x) {
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kOnes = 0x1.8p23f;  // added and taken away: rounds to the nearest integer
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float shifted = x * kLog2E + kOnes;
  const float n = shifted - kOnes;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float series = 1.0f / 5040.0f;
  series = series * r + 1.0f / 720.0f;
  series = series * r + 1.0f / 120.0f;
  series = series * r + 1.0f / 24.0f;
  series = series * r + 1.0f / 6.0f;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;  // n, modulo 2^9
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(series) + exponent);
}

// x times the logistic function of x.
inline float silu(float x) { return x / (1.0f + exponential(-x)); }

}  // namespace calque::model
