// Plain rounding: MXFP4 and NVFP4 (four-bit floats with a power of two and with an FP8 scale) and
// the ternary TQ1_0 and TQ2_0
// None of them heeds an importance matrix.
#include "ggml/types/bytes.h"
#include "ggml/types/lanes.h"

namespace calque::ggml::inline CALQUE_ISA {
namespace {

constexpr int kFp4Block = 32;
constexpr int kFp4Bytes = block_bytes(Type::kMXFP4);
constexpr int kTernary2Bytes = block_bytes(Type::kTQ2_0);

// E2M1 doubled, so that all are integers; the scale is halved in turn.
constexpr float kFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Half of the power of two that the byte stands for.
float half_power(int exponent) { return __builtin_ldexpf(1.0f, exponent - 128); }

// The largest element lands between 4 and 8 in units of the power of two.
int fp4_exponent(float largest) {
  if (!(largest > 0)) return 0;
  const float exponent = __builtin_floorf(__builtin_log2f(largest)) - 2 + 127;
  return exponent < 0 ? 0 : exponent > 254 ? 254 : static_cast<int>(exponent);
}

Floats nearest_fp4(Floats x, float scale) {
  Floats best_error = magnitude(kFp4[0] * scale - x), best{};
  for (int code = 1; code < 16; ++code) {
    const Floats error = magnitude(kFp4[code] * scale - x);
    best = error < best_error ? broadcast(static_cast<float>(code)) : best;
    best_error = error < best_error ? error : best_error;
  }
  return best;
}

void quantize_mxfp4(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kFp4Block, out += kFp4Bytes) {
    const float* x = row.values + k;
    const int exponent = fp4_exponent(largest_magnitude(x, kFp4Block));
    std::uint8_t codes[kFp4Block];
    for (int i = 0; i < kFp4Block; i += kLanes)
      store_codes(nearest_fp4(load(x + i), half_power(exponent)), codes + i);
    set_byte(out, exponent);
    store_nibbles(codes, out + 1);
  }
}

void dequantize_mxfp4(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kFp4Block, bytes += kFp4Bytes) {
    std::uint8_t codes[kFp4Block];
    load_nibbles(bytes + 1, codes);
    const float scale = half_power(byte_at(bytes));
    for (int i = 0; i < kFp4Block; ++i) values[k + i] = scale * kFp4[codes[i]];
  }
}

constexpr int kNvBlock = 64;
constexpr int kNvBytes = block_bytes(Type::kNVFP4);
constexpr int kNvGroup = 16;
constexpr int kNvGroups = kNvBlock / kNvGroup;

// Half of the number that a byte of E4M3 stands for; the sign does not count, and 0x7F is 0.
float half_fp8(int byte) {
  const int code = byte & 0x7f;
  if (code == 0x7f) return 0;
  const int exponent = code >> 3, mantissa = code & 7;
  return exponent == 0 ? __builtin_ldexpf(static_cast<float>(mantissa), -10)
                       : __builtin_ldexpf(static_cast<float>(8 + mantissa), exponent - 11);
}

// To the nearest number, halves upwards; subnormal numbers do not grow into normal ones.
int fp8_code(float scale) {
  constexpr int kLargest = 0x7e;
  if (!(scale > 0)) return 0;
  if (scale >= 448) return kLargest;
  if (scale < 0x1p-6f) {
    const int steps = static_cast<int>(scale * 512 + 0.5f);
    return steps > 7 ? 7 : steps;
  }
  // Exponent and three bits of the mantissa are the code; a carry goes into the exponent.
  std::uint32_t bits;
  std::memcpy(&bits, &scale, sizeof(bits));
  const int code = static_cast<int>((bits + (1u << 19)) >> 20) - ((127 - 7) << 3);
  return code > kLargest ? kLargest : code;
}

void quantize_nvfp4(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kNvBlock, out += kNvBytes)
    for (int group = 0; group < kNvGroups; ++group) {
      const float* x = row.values + k + group * kNvGroup;
      const int scale = fp8_code(largest_magnitude(x, kNvGroup) / 6);
      std::uint8_t codes[kNvGroup];
      for (int i = 0; i < kNvGroup; i += kLanes)
        store_codes(nearest_fp4(load(x + i), half_fp8(scale)), codes + i);
      set_byte(out + group, scale);
      for (int i = 0; i < kNvGroup / 2; ++i)
        set_byte(out + kNvGroups + group * kNvGroup / 2 + i,
                 codes[i] | codes[i + kNvGroup / 2] << 4);
    }
}

void dequantize_nvfp4(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kNvGroup) {
    const std::byte* block = bytes + k / kNvBlock * kNvBytes;
    const int group = static_cast<int>(k % kNvBlock / kNvGroup);
    const float scale = half_fp8(byte_at(block + group));
    for (int i = 0; i < kNvGroup / 2; ++i) {
      const int pair = byte_at(block + kNvGroups + group * kNvGroup / 2 + i);
      values[k + i] = scale * kFp4[pair & 15];
      values[k + i + kNvGroup / 2] = scale * kFp4[pair >> 4];
    }
  }
}

// Codes 0, 1, 2 for -1, 0, 1 times the largest magnitude, which is returned.
float ternary_codes(const float* x, std::uint8_t* codes) {
  const float scale = largest_magnitude(x, kSuper);
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  for (int i = 0; i < kSuper; i += kLanes)
    store_codes(round_half_away(load(x + i) * inverse) + 1.0f, codes + i);
  return scale;
}

void ternary_values(const std::uint8_t* codes, float scale, float* values) {
  for (int i = 0; i < kSuper; ++i) values[i] = scale * (static_cast<float>(codes[i]) - 1);
}

void quantize_tq2_0(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kSuper, out += kTernary2Bytes) {
    std::uint8_t codes[kSuper];
    store_half(ternary_codes(row.values + k, codes), out + 64);
    store_two_bits(codes, out);
  }
}

void dequantize_tq2_0(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper, bytes += kTernary2Bytes) {
    std::uint8_t codes[kSuper];
    load_two_bits(bytes, codes);
    ternary_values(codes, load_half(bytes + 64), values + k);
  }
}

// `count` bytes of up to five base-3 digits, the first the most significant; digit n of byte m is
// code n * count + m. A byte is the five-digit number as a fraction of 243, in 256ths rounded up,
// so that multiplying by 3 brings out digit after digit.
struct Digits {
  int first;  // code
  int count;  // bytes
  int digits;
};
constexpr Digits kDigits[] = {{0, 32, 5}, {160, 16, 5}, {240, 4, 4}};

void store_digits(const std::uint8_t* codes, const Digits& d, std::byte* out) {
  for (int m = 0; m < d.count; ++m) {
    int number = 0;
    for (int n = 0; n < 5; ++n)
      number = 3 * number + (n < d.digits ? codes[d.first + n * d.count + m] : 0);
    set_byte(out + m, (number * 256 + 242) / 243);
  }
}

void load_digits(const std::byte* bytes, const Digits& d, std::uint8_t* codes) {
  for (int m = 0; m < d.count; ++m) {
    int fraction = byte_at(bytes + m);
    for (int n = 0; n < d.digits; ++n) {
      codes[d.first + n * d.count + m] = static_cast<std::uint8_t>(3 * fraction >> 8);
      fraction = 3 * fraction & 255;
    }
  }
}

void quantize_tq1_0(const Row& row, std::byte* out) {
  for (Index k = 0; k < row.columns; k += kSuper) {
    std::uint8_t codes[kSuper];
    const float scale = ternary_codes(row.values + k, codes);
    for (const Digits& d : kDigits) {
      store_digits(codes, d, out);
      out += d.count;
    }
    store_half(scale, out);
    out += 2;
  }
}

void dequantize_tq1_0(const std::byte* bytes, Index columns, float* values) {
  for (Index k = 0; k < columns; k += kSuper) {
    std::uint8_t codes[kSuper];
    for (const Digits& d : kDigits) {
      load_digits(bytes, d, codes);
      bytes += d.count;
    }
    ternary_values(codes, load_half(bytes), values + k);
    bytes += 2;
  }
}

}  // namespace

const Codec* find_tiny_float(Type type) {
  static constexpr Codec kTable[] = {{Type::kMXFP4, quantize_mxfp4, dequantize_mxfp4},
                                     {Type::kNVFP4, quantize_nvfp4, dequantize_nvfp4},
                                     {Type::kTQ1_0, quantize_tq1_0, dequantize_tq1_0},
                                     {Type::kTQ2_0, quantize_tq2_0, dequantize_tq2_0}};
  for (const Codec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

}  // namespace calque::ggml::inline CALQUE_ISA
