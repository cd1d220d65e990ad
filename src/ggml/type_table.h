#pragma once

#include "calque/ggml/types.h"

// The one table of types. A header because the codecs take their sizes from it at compile time.
namespace calque::ggml {

// The sixteen codes of IQ4_NL and IQ4_XS stand for these.
inline constexpr float kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

template <std::size_t Count>
consteval std::array<float, Count> integers_from(float first) {
  std::array<float, Count> levels{};
  for (std::size_t i = 0; i < Count; ++i) levels[i] = first + static_cast<float>(i);
  return levels;
}

inline constexpr auto kTwoBits = integers_from<4>(0);
inline constexpr auto kThreeBits = integers_from<8>(-4);
inline constexpr auto kFourBits = integers_from<16>(0);
inline constexpr auto kFiveBits = integers_from<32>(0);
inline constexpr auto kSixBits = integers_from<64>(-32);

inline constexpr Structure kStructureQ2K = {16, 256, kTwoBits, 0, 15, 15};
inline constexpr Structure kStructureQ3K = {16, 256, kThreeBits, -32, 31, 0};
inline constexpr Structure kStructureQ4K = {32, 256, kFourBits, 0, 63, 63};
inline constexpr Structure kStructureQ5K = {32, 256, kFiveBits, 0, 63, 63};
inline constexpr Structure kStructureQ6K = {16, 256, kSixBits, -128, 127, 0};
inline constexpr Structure kStructureIq4Nl = {32, 32, kIq4Levels, 1, 1, 0};
inline constexpr Structure kStructureIq4Xs = {32, 256, kIq4Levels, -32, 31, 0};

consteval std::array<Number, 2> at(Number::Kind kind, std::uint16_t offset) {
  return {{{kind, offset}}};
}
consteval std::array<Number, 2> halves_at(std::uint16_t first, std::uint16_t second) {
  return {{{Number::Kind::kF16, first}, {Number::Kind::kF16, second}}};
}

// clang-format off
inline constexpr TypeInfo kTypes[] = {
    // type, name, columns and bytes of a block, its numbers, what calque can do;
    // bits of a code, columns of a group, minima, structure, nanoseconds
    {Type::kF32,  "F32",  1, 4, at(Number::Kind::kF32, 0),  Support::kPlain},
    {Type::kF16,  "F16",  1, 2, at(Number::Kind::kF16, 0),  Support::kPlain},
    {Type::kBF16, "BF16", 1, 2, at(Number::Kind::kBF16, 0), Support::kPlain},

    {Type::kQ8_0, "Q8_0", 32, 34, at(Number::Kind::kF16, 0), Support::kGrid, 8, 32, false, nullptr, 1.0},
    {Type::kQ5_1, "Q5_1", 32, 24, halves_at(0, 2),           Support::kGrid, 5, 32, true,  nullptr, 13.2},
    {Type::kQ5_0, "Q5_0", 32, 22, at(Number::Kind::kF16, 0), Support::kGrid, 5, 32, false, nullptr, 5.0},
    {Type::kQ4_1, "Q4_1", 32, 20, halves_at(0, 2),           Support::kGrid, 4, 32, true,  nullptr, 13.2},
    {Type::kQ4_0, "Q4_0", 32, 18, at(Number::Kind::kF16, 0), Support::kGrid, 4, 32, false, nullptr, 5.0},

    {Type::kQ6_K, "Q6_K", 256, 210, at(Number::Kind::kF16, 208), Support::kBlocks, 6, 16, false, &kStructureQ6K, 3.8},
    {Type::kQ5_K, "Q5_K", 256, 176, halves_at(0, 2),             Support::kBlocks, 5, 32, true,  &kStructureQ5K, 12.7},
    {Type::kQ4_K, "Q4_K", 256, 144, halves_at(0, 2),             Support::kBlocks, 4, 32, true,  &kStructureQ4K, 12.7},
    {Type::kQ3_K, "Q3_K", 256, 110, at(Number::Kind::kF16, 108), Support::kBlocks, 3, 16, false, &kStructureQ3K, 4.7},
    {Type::kQ2_K, "Q2_K", 256, 84,  halves_at(80, 82),           Support::kBlocks, 2, 16, true,  &kStructureQ2K, 16.2},

    {Type::kIQ4_NL, "IQ4_NL", 32,  18,  at(Number::Kind::kF16, 0), Support::kBlocks, 4, 32, false, &kStructureIq4Nl, 6.1},
    {Type::kIQ4_XS, "IQ4_XS", 256, 136, at(Number::Kind::kF16, 0), Support::kBlocks, 4, 32, false, &kStructureIq4Xs, 6.1},

    // Their times are this program's with AVX2, scaled by IQ4_XS's.
    {Type::kIQ3_S,   "IQ3_S",   256, 110, at(Number::Kind::kF16, 0),     Support::kBlocks, 3, 32, false, nullptr, 31.4},
    {Type::kIQ3_XXS, "IQ3_XXS", 256, 98,  at(Number::Kind::kF16, 0),     Support::kBlocks, 3, 32, false, nullptr, 66.8},
    {Type::kIQ2_S,   "IQ2_S",   256, 82,  at(Number::Kind::kF16, 0),     Support::kBlocks, 2, 16, false, nullptr, 23.6},
    {Type::kIQ2_XS,  "IQ2_XS",  256, 74,  at(Number::Kind::kF16, 0),     Support::kBlocks, 2, 16, false, nullptr, 36.6},
    {Type::kIQ2_XXS, "IQ2_XXS", 256, 66,  at(Number::Kind::kF16, 0),     Support::kBlocks, 2, 32, false, nullptr, 22.6},
    {Type::kIQ1_M,   "IQ1_M",   256, 56,  at(Number::Kind::kPieces, 48), Support::kBlocks, 2, 16, false, nullptr, 12.0},
    {Type::kIQ1_S,   "IQ1_S",   256, 50,  at(Number::Kind::kF16, 0),     Support::kBlocks, 2, 32, false, nullptr, 10.3},

    {Type::kTQ2_0, "TQ2_0", 256, 66, at(Number::Kind::kF16, 64), Support::kBlocks, 2, 256, false, nullptr, 1.0},
    {Type::kTQ1_0, "TQ1_0", 256, 54, at(Number::Kind::kF16, 52), Support::kBlocks, 2, 256, false, nullptr, 1.0},
    {Type::kMXFP4, "MXFP4", 32,  17, at(Number::Kind::kE8M0, 0), Support::kBlocks, 4, 32,  false, nullptr, 3.4},
    {Type::kNVFP4, "NVFP4", 64,  36, {}, Support::kBlocks, 4, 16,  false, nullptr, 3.4},

    {Type::kQ8_1,    "Q8_1",    32,  36,  halves_at(0, 2)},
    {Type::kQ8_K,    "Q8_K",    256, 292, at(Number::Kind::kF32, 0)},
    {Type::kQ1_0,    "Q1_0",    128, 18,  at(Number::Kind::kF16, 0)},
    {Type::kQ2_0,    "Q2_0",    64,  18,  at(Number::Kind::kF16, 0)},
    {Type::kI8,      "I8",      1,   1},
    {Type::kI16,     "I16",     1,   2},
    {Type::kI32,     "I32",     1,   4},
    {Type::kI64,     "I64",     1,   8},
    {Type::kF64,     "F64",     1,   8,   at(Number::Kind::kF64, 0)},
};
// clang-format on

consteval const TypeInfo& info_at_compile_time(Type type) {
  for (const TypeInfo& info : kTypes)
    if (info.type == type) return info;
  throw "the type is missing from the table";
}
consteval int block_bytes(Type type) {
  return static_cast<int>(info_at_compile_time(type).block_bytes);
}

}  // namespace calque::ggml
