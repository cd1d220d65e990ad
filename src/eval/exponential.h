#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace calque::eval {

// e^x for x <= 0 within two units in the last place; below -708 it is e^-708 (3e-308), so that no
// result is denormal. Not-a-numbers stay. Plain arithmetic: loops over it become vector
// instructions, which std::exp's do not.
//
// x = n ln 2 + r with |r| <= ln 2 / 2. ln 2 is taken in two parts, of which n times the first is
// exact. e^r by its Taylor series to r^13: the next term is at most (ln 2 / 2)^14 / 14! = 2^-57 of
// the sum.
inline double exponential(double x) {
  constexpr double kOnes = 0x1.8p52;  // added and taken away: rounds to the nearest integer
  constexpr double kLog2E = 0x1.71547652b82fep0;
  constexpr double kLn2High = 0x1.62e42feep-1;  // 32 bits
  constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
  x = x < -708.0 ? -708.0 : x;
  const double shifted = x * kLog2E + kOnes;
  const double n = shifted - kOnes;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double series = 1.0 / 6227020800.0;  // 1 / k!, k = 13 .. 0
  series = series * r + 1.0 / 479001600.0;
  series = series * r + 1.0 / 39916800.0;
  series = series * r + 1.0 / 3628800.0;
  series = series * r + 1.0 / 362880.0;
  series = series * r + 1.0 / 40320.0;
  series = series * r + 1.0 / 5040.0;
  series = series * r + 1.0 / 720.0;
  series = series * r + 1.0 / 120.0;
  series = series * r + 1.0 / 24.0;
  series = series * r + 1.0 / 6.0;
  series = series * r + 0.5;
  series = series * r + 1.0;
  series = series * r + 1.0;
  const std::uint64_t exponent = std::bit_cast<std::uint64_t>(shifted) << 52;  // n, modulo 2^12
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(series) + exponent);
}

}  // namespace calque::eval
