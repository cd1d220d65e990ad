#include "calque/core/dtype.h"

#include <cstring>
#include <string>

#include "calque/core/error.h"

namespace calque {
namespace {

struct DTypeInfo {
  std::string_view name;
  std::size_t bytes;
};

constexpr DTypeInfo kInfo[] = {{"F64", 8}, {"F32", 4},  {"F16", 2},     {"BF16", 2},
                               {"I64", 8}, {"I32", 4},  {"I16", 2},     {"I8", 1},
                               {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"U32", 4}};

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <typename T>
void store(std::byte* bytes, T value) {
  std::memcpy(bytes, &value, sizeof(T));
}

[[noreturn]] void refuse_integers(DType dtype) {
  throw Error(ErrorKind::kInput, "",
              "expected a floating-point tensor, found " + std::string(name_of(dtype)));
}

}  // namespace

std::size_t size_of(DType dtype) { return kInfo[static_cast<int>(dtype)].bytes; }
std::string_view name_of(DType dtype) { return kInfo[static_cast<int>(dtype)].name; }
bool is_floating(DType dtype) { return dtype <= DType::kBF16; }

float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

Half to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 aligns the last kept bit with the last bit of the sum, so the
    // addition itself rounds to nearest, ties to even.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(sum) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

void convert_to_float(const std::byte* bytes, DType dtype, std::size_t count, float* out) {
  if (count == 0) return;  // the pointers may be null then, which memcpy forbids
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, bytes, count * sizeof(float));
      return;
    case DType::kF16:
      for (std::size_t i = 0; i < count; ++i) out[i] = to_float(load<Half>(bytes + 2 * i));
      return;
    case DType::kBF16:
      for (std::size_t i = 0; i < count; ++i) out[i] = to_float(load<BFloat16>(bytes + 2 * i));
      return;
    case DType::kF64:
      for (std::size_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(load<double>(bytes + 8 * i));
      return;
    default:
      refuse_integers(dtype);
  }
}

void convert_from_float(const float* values, DType dtype, std::size_t count, std::byte* out) {
  if (count == 0) return;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, values, count * sizeof(float));
      return;
    case DType::kF16:
      for (std::size_t i = 0; i < count; ++i) store(out + 2 * i, to_half(values[i]));
      return;
    case DType::kBF16:
      for (std::size_t i = 0; i < count; ++i) store(out + 2 * i, to_bfloat16(values[i]));
      return;
    case DType::kF64:
      for (std::size_t i = 0; i < count; ++i) store(out + 8 * i, static_cast<double>(values[i]));
      return;
    default:
      refuse_integers(dtype);
  }
}

}  // namespace calque
