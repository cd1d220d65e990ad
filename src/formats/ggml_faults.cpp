#include "formats/ggml_faults.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "formats/ggml_bytes.h"

namespace calque::formats {
namespace {

using io::GgmlType;

// A number in the first bytes at `p`, widened.
using Decode = double (*)(const std::byte* p);

double half_number(const std::byte* p) { return half_at(p); }

template <typename T>
double number(const std::byte* p) {
  T value{};
  std::memcpy(&value, p, sizeof(value));
  return value;
}

double bfloat16_number(const std::byte* p) { return to_float(BFloat16{u16_at(p)}); }

// E8M0: a power of two, 0xFF is NaN.
double power_of_two(const std::byte* p) {
  return byte_at(p) == 0xFF ? std::nan("") : std::exp2(byte_at(p) - 127.0);
}

// Four pieces of a binary16 in the high nibbles of the block's last words.
double iq1_m_scale(const std::byte* p) {
  const int bits = u16_at(p) >> 12 | (u16_at(p + 2) >> 8 & 0x00F0) | (u16_at(p + 4) >> 4 & 0x0F00) |
                   (u16_at(p + 6) & 0xF000);
  return to_float(Half{static_cast<std::uint16_t>(bits)});
}

struct Scale {
  int offset;  // in the block
  Decode decode;
};

// Where the numbers of a block are that are not codes; formats_gguf.md section 2.
std::vector<Scale> scales_of(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return {{0, number<float>}};
    case GgmlType::kF64:
      return {{0, number<double>}};
    case GgmlType::kBF16:
      return {{0, bfloat16_number}};
    case GgmlType::kQ4_1:
    case GgmlType::kQ5_1:
    case GgmlType::kQ8_1:
    case GgmlType::kQ4_K:
    case GgmlType::kQ5_K:
      return {{0, half_number}, {2, half_number}};
    case GgmlType::kQ2_K:
      return {{80, half_number}, {82, half_number}};
    case GgmlType::kQ3_K:
      return {{108, half_number}};
    case GgmlType::kQ6_K:
      return {{208, half_number}};
    case GgmlType::kQ8_K:
      return {{0, number<float>}};
    case GgmlType::kTQ1_0:
      return {{52, half_number}};
    case GgmlType::kTQ2_0:
      return {{64, half_number}};
    case GgmlType::kIQ1_M:
      return {{48, iq1_m_scale}};
    case GgmlType::kMXFP4:
      return {{0, power_of_two}};
    case GgmlType::kF16:
    case GgmlType::kQ4_0:
    case GgmlType::kQ5_0:
    case GgmlType::kQ8_0:
    case GgmlType::kIQ2_XXS:
    case GgmlType::kIQ2_XS:
    case GgmlType::kIQ2_S:
    case GgmlType::kIQ3_XXS:
    case GgmlType::kIQ3_S:
    case GgmlType::kIQ1_S:
    case GgmlType::kIQ4_NL:
    case GgmlType::kIQ4_XS:
    case GgmlType::kQ1_0:
    case GgmlType::kQ2_0:
      return {{0, half_number}};
    case GgmlType::kNVFP4:  // every byte is a number or 0
    case GgmlType::kI8:
    case GgmlType::kI16:
    case GgmlType::kI32:
    case GgmlType::kI64:
      break;
  }
  return {};
}

std::string place_of(GgmlType type, std::uint64_t block, std::uint64_t columns) {
  const auto elements = static_cast<std::uint64_t>(io::info_of(type).block_elements);
  const std::uint64_t in_row = columns / elements;
  if (elements == 1) return fmt::format("row {}, column {} holds", block / in_row, block % in_row);
  return fmt::format("block {} of row {} has scale", block % in_row, block / in_row);
}

}  // namespace

std::string ggml_fault(GgmlType type, std::span<const std::byte> bytes, std::uint64_t columns) {
  const auto block_bytes = static_cast<std::size_t>(io::info_of(type).block_bytes);
  const std::vector<Scale> scales = scales_of(type);
  if (scales.empty()) return "";
  for (std::size_t b = 0; b < bytes.size() / block_bytes; ++b)
    for (const Scale& scale : scales)
      if (const double value =
              scale.decode(bytes.data() + b * block_bytes + static_cast<std::size_t>(scale.offset));
          !std::isfinite(value))
        return fmt::format("{} {}", place_of(type, b, columns), value);
  return "";
}

}  // namespace calque::formats
