#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "calque/core/dtype.h"

namespace calque {

// True if a number is neither infinite nor NaN: not all bits of its exponent are set. Integer
// arithmetic, so that loops over many numbers vectorize, which std::isfinite prevents.
inline bool is_finite(float value) {
  return (std::bit_cast<std::uint32_t>(value) & 0x7f800000u) != 0x7f800000u;
}
inline bool is_finite(BFloat16 value) { return (value.bits & 0x7f80u) != 0x7f80u; }
inline bool is_finite(Half value) { return (value.bits & 0x7c00u) != 0x7c00u; }
inline bool is_finite(double value) {
  constexpr std::uint64_t kExponent = 0x7ff0000000000000u;
  return (std::bit_cast<std::uint64_t>(value) & kExponent) != kExponent;
}

template <typename T>
bool all_finite(std::span<const T> values) {
  bool finite = true;
  for (const T value : values) finite &= is_finite(value);
  return finite;
}

// The place of the first number that is infinite or NaN; nullopt if there is none.
template <typename T>
std::optional<std::size_t> first_nonfinite(std::span<const T> values) {
  if (all_finite(values)) return std::nullopt;
  std::size_t at = 0;
  while (is_finite(values[at])) ++at;
  return at;
}

// The same for the numbers of a tensor in a file: elements of `dtype` at `bytes`, which need not be
// aligned. Integers are always finite.
std::optional<std::size_t> first_nonfinite(std::span<const std::byte> bytes, DType dtype);

// For messages: NaN without its sign.
inline double unsigned_nan(double value) {
  return value == value ? value : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace calque
