#pragma once

#include <fmt/format.h>

#include <string_view>

#include "calque/core/error.h"
#include "calque/core/matrix.h"

namespace calque {

// Checks of the arguments of the public operations; they throw Error(kInternal) naming operation
// and argument.
template <typename T>
void expect_shape(std::string_view op, std::string_view argument, MatrixView<T> view, Index rows,
                  Index cols) {
  if (view.rows() == rows && view.cols() == cols) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{}: {} is {} x {}, expected {} x {}", op, argument, view.rows(),
                          view.cols(), rows, cols));
}

inline void expect_length(std::string_view op, std::string_view argument, std::size_t length,
                          Index expected) {
  if (static_cast<Index>(length) == expected) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{}: {} has {} elements, expected {}", op, argument, length, expected));
}

inline void expect_range(std::string_view op, std::string_view argument, Index value,
                         Index smallest, Index largest) {
  if (value >= smallest && value <= largest) return;
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("{}: {} is {}, expected {} to {}", op, argument, value, smallest, largest));
}

}  // namespace calque
