#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
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

inline std::vector<std::byte> ggml_quantized(GgmlBlock type, MatrixView<const float> x,
                                             const std::vector<float>& importance,
                                             int threads = 1) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(x.rows()) * ggml_row_bytes(type, x.cols()));
  ggml_quantize(type, x, importance, bytes, open_exec("cpu", threads));
  return bytes;
}

inline Matrix<float> ggml_values(GgmlBlock type, const std::vector<std::byte>& bytes, Index rows,
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

inline std::string name_of_type(GgmlBlock type) {
  switch (type) {
    case GgmlBlock::kQ4_0:
      return "Q4_0";
    case GgmlBlock::kQ4_1:
      return "Q4_1";
    case GgmlBlock::kQ5_0:
      return "Q5_0";
    case GgmlBlock::kQ5_1:
      return "Q5_1";
    case GgmlBlock::kQ8_0:
      return "Q8_0";
    case GgmlBlock::kQ2_K:
      return "Q2_K";
    case GgmlBlock::kQ3_K:
      return "Q3_K";
    case GgmlBlock::kQ4_K:
      return "Q4_K";
    case GgmlBlock::kQ5_K:
      return "Q5_K";
    case GgmlBlock::kQ6_K:
      return "Q6_K";
    case GgmlBlock::kIQ4_NL:
      return "IQ4_NL";
    case GgmlBlock::kIQ4_XS:
      return "IQ4_XS";
    case GgmlBlock::kTQ1_0:
      return "TQ1_0";
    case GgmlBlock::kTQ2_0:
      return "TQ2_0";
    case GgmlBlock::kMXFP4:
      return "MXFP4";
  }
  return "?";
}

}  // namespace calque
