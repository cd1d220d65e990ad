#pragma once

#include <array>

#include "ggml/types/bytes.h"
#include "ggml/types/codec.h"
#include "ggml/types/fit.h"
#include "ggml/types/lanes.h"
#include "ggml/types/vector_grids.h"

// The bytes of the IQ1, IQ2 and IQ3 types, whose codes stand for vectors of four or eight columns.
// (IQ4 has single codes: codebook.cpp.)
namespace calque::ggml::inline CALQUE_ISA {

constexpr float kShift = 0.125f;  // IQ1

// Without importance an element counts this in the reference. Three types have no rounding without
// importance there; here it is 1 for every column then.
enum class PlainWeight { kNone, kSquare, kSquareAndQuarterVariance };

// Vectors that the reference chooses again for the scale of the best trial.
enum class Again { kOffGrid, kAllIfOneIs, kAlways };

// The seventh bit makes the number of minus signs even.
inline int with_parity(int seven) { return seven | (__builtin_popcount(seven) & 1) << 7; }

inline std::uint32_t word_at(const std::byte* bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}
inline void set_word(std::byte* bytes, std::uint32_t word) {
  std::memcpy(bytes, &word, sizeof(word));
}
inline int short_at(const std::byte* bytes) { return byte_at(bytes) | byte_at(bytes + 1) << 8; }
inline void set_short(std::byte* bytes, int value) {
  set_byte(bytes, value & 255);
  set_byte(bytes + 1, value >> 8);
}

// Four bits a group, two groups a byte.
inline void load_scales(const std::byte* bytes, int groups, VectorBlock& block) {
  for (int j = 0; j < groups; ++j)
    block.scales[j] = static_cast<std::uint8_t>(byte_at(bytes + j / 2) >> (4 * (j % 2)) & 15);
}
inline void store_scales(const VectorBlock& block, int groups, std::byte* bytes) {
  for (int j = 0; j < groups; j += 2)
    set_byte(bytes + j / 2, block.scales[j] | block.scales[j + 1] << 4);
}

// Seven bits of signs for each of four vectors of eight, and four of scale.
inline void load_signs_and_scale(std::uint32_t word, int group, VectorBlock& block) {
  for (int l = 0; l < 4; ++l)
    block.signs[4 * group + l] =
        static_cast<std::uint8_t>(with_parity(static_cast<int>(word >> (7 * l) & 127)));
  block.scales[group] = static_cast<std::uint8_t>(word >> 28);
}
inline std::uint32_t signs_and_scale(const VectorBlock& block, int group) {
  std::uint32_t word = static_cast<std::uint32_t>(block.scales[group]) << 28;
  for (int l = 0; l < 4; ++l)
    word |= static_cast<std::uint32_t>(block.signs[4 * group + l] & 127) << (7 * l);
  return word;
}

// Each type: its grid, its levels' values, the columns that share a scale, the number of codes and
// the unit of a scale, and the functions of its bytes, which round nothing but the step. For the
// reference's rounding: the shells of neighbours, the variance of a weight in mean squares, trials
// to either side and their step, the largest weight of a group that counts as zero, and what the
// step is multiplied by.
struct Iq2Xxs {
  static constexpr Type kType = Type::kIQ2_XXS;
  static constexpr auto& kGrid = kIq2XxsPoints;
  static constexpr std::array<float, 3> kLevels = {8, 25, 43};
  static constexpr int kGroup = 32;
  static constexpr int kScaleCodes = 16;
  static constexpr float kUnit = 0.125f;
  static constexpr bool kEvenSigns = true;
  static constexpr int kShells = 2;
  static constexpr float kVariance = 1;
  static constexpr auto kPlainWeight = PlainWeight::kNone;
  static constexpr int kTrials = 6;
  static constexpr float kTrialStep = 0.1f;
  static constexpr Again kAgain = Again::kAlways;
  static constexpr float kTiny = kZeroGroup;
  static constexpr float kFudge = 1;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int j = 0; j < 8; ++j) {
      const std::byte* group = bytes + 2 + 8 * j;
      for (int l = 0; l < 4; ++l)
        block.points[4 * j + l] = static_cast<std::uint16_t>(byte_at(group + l));
      load_signs_and_scale(word_at(group + 4), j, block);
    }
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int j = 0; j < 8; ++j) {
      std::byte* group = bytes + 2 + 8 * j;
      for (int l = 0; l < 4; ++l) set_byte(group + l, block.points[4 * j + l]);
      set_word(group + 4, signs_and_scale(block, j));
    }
  }
};

struct Iq2Xs {
  static constexpr Type kType = Type::kIQ2_XS;
  static constexpr auto& kGrid = kIq2XsPoints;
  static constexpr std::array<float, 3> kLevels = Iq2Xxs::kLevels;
  static constexpr int kGroup = 16;
  static constexpr int kScaleCodes = 16;
  static constexpr float kUnit = 0.125f;
  static constexpr bool kEvenSigns = true;
  static constexpr int kShells = 2;
  static constexpr float kVariance = 1;
  static constexpr auto kPlainWeight = PlainWeight::kNone;
  static constexpr int kTrials = 9;
  static constexpr float kTrialStep = 0.1f;
  static constexpr Again kAgain = Again::kOffGrid;
  static constexpr float kTiny = kZeroGroup;
  static constexpr float kFudge = 1;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int v = 0; v < 32; ++v) {
      const int code = short_at(bytes + 2 + 2 * v);
      block.points[v] = static_cast<std::uint16_t>(code & 511);
      block.signs[v] = static_cast<std::uint8_t>(with_parity(code >> 9));
    }
    load_scales(bytes + 66, 16, block);
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int v = 0; v < 32; ++v)
      set_short(bytes + 2 + 2 * v, block.points[v] | (block.signs[v] & 127) << 9);
    store_scales(block, 16, bytes + 66);
  }
};

struct Iq2S {
  static constexpr Type kType = Type::kIQ2_S;
  static constexpr auto& kGrid = kIq2SPoints;
  static constexpr std::array<float, 3> kLevels = Iq2Xxs::kLevels;
  static constexpr int kGroup = 16;
  static constexpr int kScaleCodes = 16;
  static constexpr float kUnit = 0.125f;
  static constexpr bool kEvenSigns = false;
  static constexpr int kShells = 1;
  static constexpr float kVariance = 2;
  static constexpr auto kPlainWeight = PlainWeight::kSquareAndQuarterVariance;
  static constexpr int kTrials = 9;
  static constexpr float kTrialStep = 0.1f;
  static constexpr Again kAgain = Again::kOffGrid;
  static constexpr float kTiny = 1e-8f;
  static constexpr float kFudge = 0.9875f;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int v = 0; v < 32; ++v) {
      const int high = byte_at(bytes + 66 + v / 4) >> (2 * (v % 4)) & 3;
      block.points[v] = static_cast<std::uint16_t>(byte_at(bytes + 2 + v) | high << 8);
      block.signs[v] = static_cast<std::uint8_t>(byte_at(bytes + 34 + v));
    }
    load_scales(bytes + 74, 16, block);
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int v = 0; v < 32; ++v) {
      set_byte(bytes + 2 + v, block.points[v] & 255);
      set_byte(bytes + 34 + v, block.signs[v]);
    }
    for (int quad = 0; quad < 8; ++quad) {
      int high = 0;
      for (int l = 0; l < 4; ++l) high |= block.points[4 * quad + l] >> 8 << (2 * l);
      set_byte(bytes + 66 + quad, high);
    }
    store_scales(block, 16, bytes + 74);
  }
};

struct Iq3Xxs {
  static constexpr Type kType = Type::kIQ3_XXS;
  static constexpr auto& kGrid = kIq3XxsPoints;
  static constexpr std::array<float, 8> kLevels = {4, 12, 20, 28, 36, 44, 52, 62};
  static constexpr int kGroup = 32;
  static constexpr int kScaleCodes = 16;
  static constexpr float kUnit = 0.25f;
  static constexpr bool kEvenSigns = true;
  static constexpr int kShells = 2;
  static constexpr float kVariance = 2;
  static constexpr auto kPlainWeight = PlainWeight::kSquare;
  static constexpr int kTrials = 15;
  static constexpr float kTrialStep = 0.2f;
  static constexpr Again kAgain = Again::kOffGrid;
  static constexpr float kTiny = 1e-8f;
  static constexpr float kFudge = 1.0125f;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int v = 0; v < 64; ++v)
      block.points[v] = static_cast<std::uint16_t>(byte_at(bytes + 2 + v));
    for (int j = 0; j < 8; ++j) load_signs_and_scale(word_at(bytes + 66 + 4 * j), j, block);
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int v = 0; v < 64; ++v) set_byte(bytes + 2 + v, block.points[v]);
    for (int j = 0; j < 8; ++j) set_word(bytes + 66 + 4 * j, signs_and_scale(block, j));
  }
};

struct Iq3S {
  static constexpr Type kType = Type::kIQ3_S;
  static constexpr auto& kGrid = kIq3SPoints;
  static constexpr std::array<float, 8> kLevels = {1, 3, 5, 7, 9, 11, 13, 15};
  static constexpr int kGroup = 32;
  static constexpr int kScaleCodes = 16;
  static constexpr float kUnit = 1;
  static constexpr bool kEvenSigns = false;
  static constexpr int kShells = 3;
  static constexpr float kVariance = 2;
  static constexpr auto kPlainWeight = PlainWeight::kSquare;
  static constexpr int kTrials = 9;
  static constexpr float kTrialStep = 0.2f;
  static constexpr Again kAgain = Again::kAllIfOneIs;
  static constexpr float kTiny = 0;
  static constexpr float kFudge = 1.033f;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int v = 0; v < 64; ++v) {
      const int high = byte_at(bytes + 66 + v / 8) >> (v % 8) & 1;
      block.points[v] = static_cast<std::uint16_t>(byte_at(bytes + 2 + v) | high << 8);
    }
    for (int v = 0; v < 32; ++v)
      block.signs[v] = static_cast<std::uint8_t>(byte_at(bytes + 74 + v));
    load_scales(bytes + 106, 8, block);
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int v = 0; v < 64; ++v) set_byte(bytes + 2 + v, block.points[v] & 255);
    for (int j = 0; j < 8; ++j) {
      int high = 0;
      for (int l = 0; l < 8; ++l) high |= block.points[8 * j + l] >> 8 << l;
      set_byte(bytes + 66 + j, high);
    }
    for (int v = 0; v < 32; ++v) set_byte(bytes + 74 + v, block.signs[v]);
    store_scales(block, 8, bytes + 106);
  }
};

struct Iq1S {
  static constexpr Type kType = Type::kIQ1_S;
  static constexpr auto& kGrid = kIq1Points;
  static constexpr std::array<float, 3> kLevels = {-1, 0, 1};
  static constexpr int kGroup = 32;
  static constexpr int kScaleCodes = 8;
  static constexpr float kUnit = 1;
  static constexpr bool kEvenSigns = false;
  static constexpr int kShells = 3;
  static constexpr float kVariance = 2;
  static constexpr auto kPlainWeight = PlainWeight::kNone;
  static constexpr bool kShiftOfHalves = false;
  static constexpr float kTiny = 1e-12f;
  static constexpr float kFudge = 1.125f;

  static void load(const std::byte* bytes, VectorBlock& block) {
    block.step = load_half(bytes);
    for (int j = 0; j < 8; ++j) {
      const int high = short_at(bytes + 34 + 2 * j);
      for (int l = 0; l < 4; ++l) {
        const int v = 4 * j + l;
        block.points[v] =
            static_cast<std::uint16_t>(byte_at(bytes + 2 + v) | (high >> (3 * l) & 7) << 8);
        block.signs[v] = static_cast<std::uint8_t>(high >> 15);
      }
      block.scales[j] = static_cast<std::uint8_t>(high >> 12 & 7);
    }
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    store_half(block.step, bytes);
    for (int j = 0; j < 8; ++j) {
      int high = block.scales[j] << 12 | block.signs[4 * j] << 15;
      for (int l = 0; l < 4; ++l) {
        const int v = 4 * j + l;
        set_byte(bytes + 2 + v, block.points[v] & 255);
        high |= block.points[v] >> 8 << (3 * l);
      }
      set_short(bytes + 34 + 2 * j, high);
    }
  }
};

struct Iq1M {
  static constexpr Type kType = Type::kIQ1_M;
  static constexpr auto& kGrid = kIq1Points;
  static constexpr std::array<float, 3> kLevels = Iq1S::kLevels;
  static constexpr int kGroup = 16;
  static constexpr int kScaleCodes = 8;
  static constexpr float kUnit = 1;
  static constexpr bool kEvenSigns = false;
  static constexpr int kShells = 3;
  static constexpr float kVariance = 2;
  static constexpr auto kPlainWeight = PlainWeight::kSquare;
  static constexpr bool kShiftOfHalves = true;
  static constexpr float kTiny = 1e-7f;
  static constexpr float kFudge = 1.1125f;

  // The step's four nibbles are the high ones of four words of scales, the lowest first.
  static void load(const std::byte* bytes, VectorBlock& block) {
    Half step{0};
    for (int word = 0; word < 4; ++word) {
      const int scales = short_at(bytes + 48 + 2 * word);
      step.bits = static_cast<std::uint16_t>(step.bits | scales >> 12 << (4 * word));
      for (int l = 0; l < 4; ++l)
        block.scales[4 * word + l] = static_cast<std::uint8_t>(scales >> (3 * l) & 7);
    }
    block.step = to_float(step);
    for (int v = 0; v < 32; ++v) {
      const int high = byte_at(bytes + 32 + v / 2) >> (4 * (v % 2)) & 15;
      block.points[v] = static_cast<std::uint16_t>(byte_at(bytes + v) | (high & 7) << 8);
      block.signs[v] = static_cast<std::uint8_t>(high >> 3);
    }
  }
  static void store(const VectorBlock& block, std::byte* bytes) {
    const int step = to_half(block.step).bits;
    for (int word = 0; word < 4; ++word) {
      int scales = (step >> (4 * word) & 15) << 12;
      for (int l = 0; l < 4; ++l) scales |= block.scales[4 * word + l] << (3 * l);
      set_short(bytes + 48 + 2 * word, scales);
    }
    for (int v = 0; v < 32; ++v) set_byte(bytes + v, block.points[v] & 255);
    for (int pair = 0; pair < 16; ++pair) {
      const auto high = [&](int v) { return block.points[v] >> 8 | block.signs[v] << 3; };
      set_byte(bytes + 32 + pair, high(2 * pair) | high(2 * pair + 1) << 4);
    }
  }
};

// Values by point: Grid's levels looked up in the type's own.
template <typename V>
constexpr auto point_values() {
  constexpr auto& grid = V::kGrid;
  std::array<std::array<float, grid.kLength>, grid.kCount> values{};
  for (std::size_t p = 0; p < values.size(); ++p)
    for (int e = 0; e < grid.kLength; ++e)
      values[p][static_cast<std::size_t>(e)] =
          V::kLevels[static_cast<std::size_t>(grid.level(grid.numbers[p], e))];
  return values;
}

}  // namespace calque::ggml::inline CALQUE_ISA
