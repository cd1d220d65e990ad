#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "calque/core/matrix.h"

namespace calque {

// Checks of the arguments of the public operations; they throw Error(kInternal) naming operation
// and argument.
void expect_shape(std::string_view op, std::string_view argument, Index rows, Index cols,
                  Index expected_rows, Index expected_cols);

template <typename T>
void expect_shape(std::string_view op, std::string_view argument, MatrixView<T> view, Index rows,
                  Index cols) {
  expect_shape(op, argument, view.rows(), view.cols(), rows, cols);
}

void expect_length(std::string_view op, std::string_view argument, std::size_t length,
                   Index expected);
void expect_range(std::string_view op, std::string_view argument, Index value, Index smallest,
                  Index largest);

// One scale and offset a group and row, and a group for every column.
void expect_grid(std::string_view op, Index rows, Index cols, MatrixView<const float> scales_NG,
                 MatrixView<const float> offsets_NG,
                 std::span<const std::int32_t> group_of_column_K);

}  // namespace calque
