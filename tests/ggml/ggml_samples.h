#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/kernels/ggml.h"
#include "ggml/ggml_golden.h"

namespace calque {

// x[i] in [-1, 1) from a linear congruential generator.
inline std::vector<float> ggml_noise(int count = 512) {
  std::vector<float> values;
  std::uint32_t state = 1;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values.push_back((static_cast<float>(state >> 16) - 32768.0f) / 32768.0f);
  }
  return values;
}

// Column weights that differ within every group.
inline std::vector<float> ggml_importance(int count = 256) {
  std::vector<float> weights;
  for (int i = 0; i < count; ++i) weights.push_back(1.0f + static_cast<float>(i * i % 17) / 4.0f);
  return weights;
}

// Two rows of 256.
inline Matrix<float> ggml_input(GgmlInput input) {
  const std::vector<float> noise = ggml_noise();
  Matrix<float> x(2, 256);
  for (int i = 0; i < 512; ++i) {
    float& v = x.data()[i];
    switch (input) {
      case GgmlInput::kNoise:
      case GgmlInput::kNoiseUnimportant:
        v = noise[static_cast<std::size_t>(i)];
        break;
      case GgmlInput::kZeros:
        v = 0;
        break;
      case GgmlInput::kOnes:
        v = 1;
        break;
      case GgmlInput::kMinusOnes:
        v = -1;
        break;
      case GgmlInput::kRamp:
        v = static_cast<float>(i) / 256;
        break;
      case GgmlInput::kNegativeRamp:
        v = -static_cast<float>(i + 1) / 256;
        break;
      case GgmlInput::kSpikes:
        v = i == 100 ? 3 : i == 300 ? -2 : 0;
        break;
      case GgmlInput::kTiny:
        v = 1e-20f * noise[static_cast<std::size_t>(i)];
        break;
    }
  }
  return x;
}

inline std::vector<float> ggml_importance_of(GgmlInput input) {
  if (input == GgmlInput::kNoiseUnimportant) return std::vector<float>(256, 0.0f);
  return ggml_importance();
}

inline std::vector<std::byte> ggml_quantized(ggml::Type type, MatrixView<const float> x,
                                             const std::vector<float>& importance,
                                             int threads = 1) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(x.rows()) *
                               ggml::row_bytes(type, x.cols()));
  ggml_quantize(type, x, importance, bytes, open_exec("cpu", threads));
  return bytes;
}

inline Matrix<float> ggml_values(ggml::Type type, const std::vector<std::byte>& bytes, Index rows,
                                 Index columns) {
  Matrix<float> values(rows, columns);
  ggml_dequantize(type, bytes, values, open_exec("cpu", 1));
  return values;
}

// CRC-32 of IEEE 802.3, as zip files use it.
inline std::uint32_t crc32(const std::vector<std::byte>& bytes) {
  std::uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

inline std::string name_of_type(ggml::Type type) { return std::string(ggml::info_of(type).name); }

}  // namespace calque
