#include "calque/formats/conversion.h"

#include <fmt/format.h>

#include <limits>

#include "calque/core/error.h"
#include "calque/core/finite.h"

namespace calque::formats {
namespace {

double largest_number(DType dtype) {
  if (dtype == DType::kF16) return 65504;
  return dtype == DType::kBF16 ? 0x1.fep127 : double{std::numeric_limits<float>::max()};
}

}  // namespace

void require_stored(std::string_view tensor_name, MatrixView<const float> values, DType dtype,
                    std::span<const std::byte> stored, std::string_view remedy) {
  const std::optional<std::size_t> found = first_nonfinite(stored, dtype);
  if (!found) return;
  const auto at = static_cast<Index>(*found);
  const Index row = at / values.cols();
  const Index column = at % values.cols();
  throw Error(
      ErrorKind::kNumerical, "E402",
      fmt::format("tensor '{}': row {}, column {} is {}, beyond what {} can store ({:.6g}). "
                  "{}",
                  tensor_name, row, column, values(row, column), name_of(dtype),
                  largest_number(dtype), remedy));
}

}  // namespace calque::formats
