#include "formats/gguf_types.h"

#include <cassert>
#include <cmath>
#include <numbers>

#include "formats/ggml_blocks.h"
#include "calque/ggml/quantize.h"

namespace calque::formats {

const std::vector<io::GgmlType>& gguf_written_types() {
  using enum io::GgmlType;
  static const std::vector<io::GgmlType> types = {kF32,  kF16,    kBF16,   kQ8_0,  kQ5_1,  kQ5_0,
                                                  kQ4_1, kQ4_0,   kQ6_K,   kQ5_K,  kQ4_K,  kQ3_K,
                                                  kQ2_K, kIQ4_NL, kIQ4_XS, kTQ2_0, kTQ1_0, kMXFP4};
  return types;
}

const io::GgmlTypeInfo* find_gguf_written_type(std::string_view name) {
  for (const io::GgmlType type : gguf_written_types())
    if (io::info_of(type).name == name) return &io::info_of(type);
  return nullptr;
}

io::GgmlType gguf_written_type(std::string_view name) {
  const io::GgmlTypeInfo* info = find_gguf_written_type(name);
  assert(info != nullptr);
  return info->type;
}

std::optional<quant::Grid> gguf_grid(io::GgmlType type, bool reference_rounding) {
  const BlockCodec* codec = find_block_codec(type);
  if (codec != nullptr && !reference_rounding) return codec->grid;
  const auto id = static_cast<std::uint32_t>(type);
  if (!is_ggml_block(id)) return std::nullopt;
  return quant::block_grid(static_cast<GgmlBlock>(id));
}

std::uint64_t gguf_bytes(io::GgmlType type, const std::vector<Index>& shape) {
  return io::GgufTensorDeclaration{"", type, ne_of(shape)}.byte_count();
}

std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape) {
  return {shape.rbegin(), shape.rend()};
}

std::vector<float> llama3_divisors(const model::RopeSpec& rope, Index head_dim) {
  const auto original = static_cast<double>(rope.original_max_positions);
  std::vector<float> divisors;
  for (Index i = 0; i < head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double wavelength = 2.0 * std::numbers::pi * std::pow(rope.theta, exponent);
    double divisor = rope.factor;
    if (wavelength < original / rope.high_freq_factor) {
      divisor = 1.0;
    } else if (wavelength <= original / rope.low_freq_factor) {
      const double smooth = (original / wavelength - rope.low_freq_factor) /
                            (rope.high_freq_factor - rope.low_freq_factor);
      divisor = 1.0 / ((1.0 - smooth) / rope.factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

}  // namespace calque::formats
