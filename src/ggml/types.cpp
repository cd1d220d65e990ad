#include "calque/ggml/types.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "ggml/type_table.h"

namespace calque::ggml {
namespace {

template <typename Predicate>
const TypeInfo* find_if(Predicate predicate) {
  const TypeInfo* found = std::find_if(std::begin(kTypes), std::end(kTypes), predicate);
  return found == std::end(kTypes) ? nullptr : found;
}

template <typename T>
T read(const std::byte* bytes) {
  T value{};
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

double half_in_pieces(const std::byte* words) {
  unsigned bits = 0;
  for (int i = 0; i < 4; ++i)
    bits |= (read<std::uint16_t>(words + 2 * i) & 0xF000u) >> (12 - 4 * i);
  return to_float(Half{static_cast<std::uint16_t>(bits)});
}

double power_of_two(std::uint8_t exponent) {
  return exponent == 255 ? std::nan("") : std::exp2(exponent - 127.0);
}

double value_of(const Number& number, const std::byte* block) {
  const std::byte* bytes = block + number.offset;
  switch (number.kind) {
    case Number::Kind::kNone:
      break;
    case Number::Kind::kF16:
      return to_float(Half{read<std::uint16_t>(bytes)});
    case Number::Kind::kBF16:
      return to_float(BFloat16{read<std::uint16_t>(bytes)});
    case Number::Kind::kF32:
      return read<float>(bytes);
    case Number::Kind::kF64:
      return read<double>(bytes);
    case Number::Kind::kE8M0:
      return power_of_two(read<std::uint8_t>(bytes));
    case Number::Kind::kPieces:
      return half_in_pieces(bytes);
  }
  return 0;
}

bool is_finite_in(const Number& number, const std::byte* block) {
  const std::byte* bytes = block + number.offset;
  if (number.kind == Number::Kind::kNone) return true;
  if (number.kind == Number::Kind::kF16) return is_finite(Half{read<std::uint16_t>(bytes)});
  return is_finite(value_of(number, block));
}

std::optional<DType> plain_dtype(Type type) {
  if (type == Type::kF64) return DType::kF64;
  if (info_of(type).support == Support::kPlain) return dtype_of(type);
  return std::nullopt;
}

std::string place_of(const TypeInfo& info, std::uint64_t block, std::uint64_t columns,
                     std::uint64_t first_row) {
  const std::uint64_t in_row = columns / static_cast<std::uint64_t>(info.block_columns);
  const std::uint64_t row = first_row + block / in_row;
  if (info.block_columns == 1) return fmt::format("row {}, column {} holds", row, block % in_row);
  return fmt::format("block {} of row {} has scale", block % in_row, row);
}

constexpr double kLargestHalf = 65504;

// In units of the step. The search may stop at the lowest of its trials for the largest weight,
// and enlarges the step afterwards (types/vector_bytes.h): 31 * (5 - 0.9) for IQ2,
// 31 * (15 - 3) / 1.033 for IQ3, less what fits to other points take. In IQ1 one large weight may
// take the middle level, 1/8: 15 / 8 / 1.125.
std::optional<double> largest_in_steps(Type type) {
  switch (type) {
    case Type::kIQ2_XXS:
    case Type::kIQ2_XS:
    case Type::kIQ2_S:
      return 127;
    case Type::kIQ3_XXS:
    case Type::kIQ3_S:
      return 330;
    case Type::kIQ1_S:
    case Type::kIQ1_M:
      return 1.6;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::span<const float> Structure::table() const {
  const bool consecutive = levels.back() - levels.front() == static_cast<float>(levels.size() - 1);
  return consecutive ? std::span<const float>() : levels;
}

std::span<const TypeInfo> types() { return kTypes; }

const TypeInfo* find_type(std::uint32_t id) {
  return find_if(
      [id](const TypeInfo& info) { return static_cast<std::uint32_t>(info.type) == id; });
}

const TypeInfo* find_type(std::string_view name) {
  return find_if([name](const TypeInfo& info) { return info.name == name; });
}

const TypeInfo& info_of(Type type) {
  const TypeInfo* info = find_type(static_cast<std::uint32_t>(type));
  assert(info != nullptr);
  return *info;
}

DType dtype_of(Type type) {
  assert(info_of(type).support == Support::kPlain);
  if (type == Type::kF16) return DType::kF16;
  return type == Type::kBF16 ? DType::kBF16 : DType::kF32;
}

std::size_t row_bytes(Type type, Index columns) {
  const TypeInfo& info = info_of(type);
  if (columns % info.block_columns != 0)
    throw Error(
        ErrorKind::kInternal, "",
        fmt::format("ggml_row_bytes: columns beyond the last whole block is {}, expected 0 to 0",
                    columns % info.block_columns));
  return static_cast<std::size_t>(columns / info.block_columns) * info.block_bytes;
}

std::optional<Fault> find_fault(Type type, std::span<const std::byte> bytes) {
  const TypeInfo& info = info_of(type);
  if (const std::optional<DType> dtype = plain_dtype(type)) {
    const std::optional<std::size_t> at = first_nonfinite(bytes, *dtype);
    if (!at) return std::nullopt;
    return Fault{*at, value_of(info.numbers[0], bytes.data() + *at * info.block_bytes)};
  }
  const std::byte* block = bytes.data();
  for (std::size_t b = 0; b < bytes.size() / info.block_bytes; ++b, block += info.block_bytes)
    for (const Number& number : info.numbers)
      if (!is_finite_in(number, block)) return Fault{b, value_of(number, block)};
  return std::nullopt;
}

std::string first_fault(Type type, std::span<const std::byte> bytes, std::uint64_t columns,
                        std::uint64_t first_row) {
  const std::optional<Fault> fault = find_fault(type, bytes);
  if (!fault) return "";
  return fmt::format("{} {}", place_of(info_of(type), fault->block, columns, first_row),
                     unsigned_nan(fault->value));
}

double largest_weight(Type type, bool negative) {
  const TypeInfo& info = info_of(type);
  if (info.support == Support::kPlain) {
    if (type == Type::kF16) return kLargestHalf;
    return type == Type::kBF16 ? 0x1.fep127 : double{std::numeric_limits<float>::max()};
  }
  if (type == Type::kMXFP4)
    return std::numeric_limits<float>::max();  // its scales are powers of two
  if (type == Type::kNVFP4) return 448 * 6;    // its scales are FP8 numbers
  if (info.support == Support::kGrid)          // a minimum is stored as it is
    return info.has_minimum ? kLargestHalf : kLargestHalf * ((1 << (info.code_bits - 1)) - 1);
  if (const std::optional<double> steps = largest_in_steps(type)) return kLargestHalf * *steps;
  const Structure* structure = info.structure;
  if (structure == nullptr) return kLargestHalf;  // -1, 0 and 1 times the scale
  if (structure->has_minima())
    return kLargestHalf * (negative ? double{1} * structure->highest_minimum
                                    : structure->highest_scale * (structure->levels.back() - 1.0));
  const int scale = std::max(1, std::min(-structure->lowest_scale, structure->highest_scale));
  return kLargestHalf * scale *
         static_cast<double>(std::min(-structure->levels.front(), structure->levels.back()));
}

}  // namespace calque::ggml
