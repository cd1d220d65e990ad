#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace calque {

// Element types of tensors in files.
enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kF8E4M3,  // codes of a quantized matrix: they mean nothing without its scales
  kU32,     // words of such codes
};

// Bytes of one element.
std::size_t size_of(DType dtype);

// The name that safetensors headers use: "F32", "BF16", "BOOL", "F8_E4M3", ...
std::string_view name_of(DType dtype);

// True for F64, F32, F16 and BF16.
bool is_floating(DType dtype);

// IEEE binary16 and bfloat16 as bit patterns: trivially copyable, no arithmetic of their own.
struct Half {
  std::uint16_t bits = 0;
};
struct BFloat16 {
  std::uint16_t bits = 0;
};

// Exact widening.
float to_float(Half value);
inline float to_float(BFloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// The same for code that is written once for float and for BFloat16.
inline float widened(float value) { return value; }
inline float widened(BFloat16 value) { return to_float(value); }

// Round to nearest, ties to even; overflow gives infinity, NaN stays NaN (quiet). The second is
// inline and without branches, so that loops over activations vectorize.
Half to_half(float value);
inline BFloat16 to_bfloat16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40u;
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return {static_cast<std::uint16_t>(is_nan ? quiet : rounded)};
}

// `value` after a trip through binary16 / bfloat16.
inline float rounded_to_half(float value) { return to_float(to_half(value)); }
inline float rounded_to_bfloat16(float value) { return to_float(to_bfloat16(value)); }

// `count` elements of a floating `dtype` at `bytes` (no alignment needed), widened (F64: rounded)
// to fp32 at `out`; and fp32 rounded to `dtype`.
void convert_to_float(const std::byte* bytes, DType dtype, std::size_t count, float* out);
void convert_from_float(const float* values, DType dtype, std::size_t count, std::byte* out);

}  // namespace calque
