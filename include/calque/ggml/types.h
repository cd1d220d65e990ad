#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"

namespace calque::ggml {

// GGUF stores a tensor in these ways, by the format's ids. A tensor's rows are cut into blocks of
// some columns, each of the same bytes; plain types are blocks of one number. Ids that are missing
// here were removed from the format.
enum class Type : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
};

// calque can do this with a type's values.
enum class Support : std::uint8_t {
  kSizeOnly,  // neither read nor write them
  kPlain,     // one number a column: F32, F16, BF16
  kGrid,      // a scale (and minimum) for 32 codes, so the neutral form of quantization holds them
  kBlocks,    // blocks only: scales that are codes themselves, or codes that stand for a table
};

// The meaning of codes of a type with scale codes. Column k of group g of super-block s stands
// for
//   scale * levels[code] + offset,
//   scale = step_s * scale_code_g,  offset = -minimum_step_s * minimum_code_g (with minima).
// That is what GPTQ needs to know of a type.
struct Structure {
  Index group;                      // columns
  Index super;                      // columns of a super-block, which is one block of the file
  std::span<const float> levels;    // by code, rising
  int lowest_scale, highest_scale;  // the scale codes' ends; both 1: the step is the scale
  int highest_minimum;              // the minimum codes go from 0 to it; 0: no minima

  bool has_minima() const { return highest_minimum > 0; }
  // Empty where the levels are consecutive integers: then levels[code] = levels[0] + code.
  std::span<const float> table() const;
};

// The meaning of codes of a type whose codes stand for vectors of columns (IQ1, IQ2, IQ3). Element
// e of a vector of group g in super-block s stands for
//   scale * points[code][e], and negative where its sign says so,
//   scale = step_s * unit * (2 * scale_code_g + 1);
// with `shift` there are no signs: scale * (points[code][e] + shift or - shift).
struct VectorStructure {
  Index length;                   // columns of a vector: 8 or 4
  Index group;                    // columns that share a scale
  Index super;                    // columns of a super-block, which is one block of the file
  int scale_codes;                // codes are 0 .. scale_codes - 1
  float unit;                     // scales are multiples
  std::span<const float> points;  // `length` values for each code
  bool even_signs;                // the number of minus signs of eight columns is even
  float shift;                    // 0: signs
  Index shift_columns;            // columns that are shifted alike

  int count() const { return static_cast<int>(std::ssize(points) / length); }
};

// A number of a block that is no code, such as its scale: one that is infinite or NaN makes the
// whole block so.
struct Number {
  enum class Kind : std::uint8_t {
    kNone,
    kF16,
    kBF16,
    kF32,
    kF64,
    kE8M0,    // a power of two in one byte; 255 is NaN
    kPieces,  // a binary16 in the high nibbles of four 16-bit words
  };
  Kind kind = Kind::kNone;
  std::uint16_t offset = 0;  // bytes from the block's begin
};

// One row of the table of types (src/ggml/types.cpp), in the order in which calque names them.
struct TypeInfo {
  Type type;
  std::string_view name;  // "Q4_K"
  Index block_columns;    // columns of a row that share one block
  std::size_t block_bytes;
  std::array<Number, 2> numbers = {};
  Support support = Support::kSizeOnly;
  // For types with codes: bits of one, columns that share a scale, whether they share a minimum.
  int code_bits = 0;
  Index group = 0;
  bool has_minimum = false;
  const Structure* structure = nullptr;  // null: scales are no product of a step and a code
  // The reference quantizer's time for one weight with importance: nanoseconds of a thread of a
  // processor with AVX-512.
  double nanoseconds = 0;

  // True if calque reads and writes its values, as numbers or as quantized blocks.
  bool supported() const { return support != Support::kSizeOnly; }
  bool quantized() const { return support == Support::kGrid || support == Support::kBlocks; }
  double bits_per_weight() const {
    return 8.0 * static_cast<double>(block_bytes) / static_cast<double>(block_columns);
  }
};

std::span<const TypeInfo> types();
const TypeInfo& info_of(Type type);
// Null for an id that is unknown or was removed, and for a name that is not exactly a type's.
const TypeInfo* find_type(std::uint32_t id);
const TypeInfo* find_type(std::string_view name);

// The type of a plain type's (Support::kPlain) numbers in memory.
DType dtype_of(Type type);

// Bytes of a row of `columns`; Error(kInternal) if they are no whole blocks.
std::size_t row_bytes(Type type, Index columns);

// The first number in rows of `columns` that no runtime can compute with: a block's scale that is
// infinite or NaN, or an element of F16, BF16, F32 or F64 that is. (What llama.cpp's check_tensors
// refuses.)
struct Fault {
  std::uint64_t block = 0;  // counted over all rows; of a plain type the element
  double value = 0;
};
std::optional<Fault> find_fault(Type type, std::span<const std::byte> bytes);
// The same in words, "block 1 of row 0 has scale inf", where the bytes begin with `first_row`.
// Empty if there is none.
std::string first_fault(Type type, std::span<const std::byte> bytes, std::uint64_t columns,
                        std::uint64_t first_row = 0);

// The magnitude up to which every weight of that sign can be stored, whatever else is in its block.
// Scales are F16 numbers up to 65504; a search may put the largest weight on the end of the codes
// that is nearer to zero, or leave a code unused, so up to twice as much can fit.
double largest_weight(Type type, bool negative);

}  // namespace calque::ggml
