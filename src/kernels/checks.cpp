#include "kernels/checks.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque {

void expect_shape(std::string_view op, std::string_view argument, Index rows, Index cols,
                  Index expected_rows, Index expected_cols) {
  if (rows == expected_rows && cols == expected_cols) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{}: {} is {} x {}, expected {} x {}", op, argument, rows, cols,
                          expected_rows, expected_cols));
}

void expect_length(std::string_view op, std::string_view argument, std::size_t length,
                   Index expected) {
  if (static_cast<Index>(length) == expected) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{}: {} has {} elements, expected {}", op, argument, length, expected));
}

void expect_range(std::string_view op, std::string_view argument, Index value, Index smallest,
                  Index largest) {
  if (value >= smallest && value <= largest) return;
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("{}: {} is {}, expected {} to {}", op, argument, value, smallest, largest));
}

void expect_grid(std::string_view op, Index rows, Index cols, MatrixView<const float> scales_NG,
                 MatrixView<const float> offsets_NG,
                 std::span<const std::int32_t> group_of_column_K) {
  const Index groups = scales_NG.cols();
  expect_shape(op, "scales_NG", scales_NG, rows, groups);
  expect_shape(op, "offsets_NG", offsets_NG, rows, groups);
  expect_length(op, "group_of_column_K", group_of_column_K.size(), cols);
  for (const std::int32_t group : group_of_column_K)
    expect_range(op, "group_of_column_K", group, 0, groups - 1);
}

}  // namespace calque
