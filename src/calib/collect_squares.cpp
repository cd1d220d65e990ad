#include "calque/calib/collect_squares.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/finite.h"

namespace calque::calib {

template <typename T>
void SquareCollector::add_rows(MatrixView<const T> inputs_TK) {
  const Index features = inputs_TK.cols();
  for (Index t = 0; t < inputs_TK.rows(); ++t, ++seen_) {
    const T* row = inputs_TK.row(t);
    if (!all_finite<T>(inputs_TK.row_span(t))) {
      if (first_nonfinite_token_ < 0) first_nonfinite_token_ = seen_;
      continue;
    }
    ++tokens_;
    for (Index k = 0; k < features; ++k) {
      const double x = widened(row[k]);
      sums_K_[static_cast<std::size_t>(k)] += x * x;
    }
  }
}

void SquareCollector::add(const forward::ActivationView& inputs_TK) {
  if (inputs_TK.cols() != static_cast<Index>(sums_K_.size()))
    throw Error(ErrorKind::kInternal, "",
                fmt::format("sums of squares: got rows of {} features, expected {}",
                            inputs_TK.cols(), sums_K_.size()));
  if (inputs_TK.is_bf16())
    add_rows(inputs_TK.bf16_TK);
  else
    add_rows(inputs_TK.f32_TK);
}

}  // namespace calque::calib
