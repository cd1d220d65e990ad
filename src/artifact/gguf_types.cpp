#include "artifact/gguf_types.h"

#include <cassert>
#include <cmath>
#include <numbers>

namespace calque::artifact {

const std::vector<GgufTypeChoice>& gguf_type_choices() {
  using enum io::GgmlType;
  static const std::vector<GgufTypeChoice> choices = {
      {"F32", kF32, 0, false},  {"F16", kF16, 1, false},  {"BF16", kBF16, 32, false},
      {"Q8_0", kQ8_0, 7, true}, {"Q5_1", kQ5_1, 9, true}, {"Q5_0", kQ5_0, 8, true},
      {"Q4_1", kQ4_1, 3, true}, {"Q4_0", kQ4_0, 2, true},
  };
  return choices;
}

const GgufTypeChoice* find_gguf_type_choice(std::string_view name) {
  for (const GgufTypeChoice& choice : gguf_type_choices())
    if (choice.name == name) return &choice;
  return nullptr;
}

const GgufTypeChoice& gguf_type_choice(std::string_view name) {
  const GgufTypeChoice* choice = find_gguf_type_choice(name);
  assert(choice != nullptr);
  return *choice;
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

}  // namespace calque::artifact
