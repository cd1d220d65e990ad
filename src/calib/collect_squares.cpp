#include "calque/calib/collect_squares.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::calib {
namespace {

float widened(float value) { return value; }
float widened(BFloat16 value) { return to_float(value); }

template <typename T>
bool is_finite(const T* row, Index count) {
  // 0 * x is 0 for finite x and NaN otherwise.
  bool finite = true;
  for (Index k = 0; k < count; ++k) finite &= widened(row[k]) * 0.0f == 0.0f;
  return finite;
}

}  // namespace

template <typename T>
void SquareCollector::add_rows(MatrixView<const T> inputs_TK) {
  const Index features = inputs_TK.cols();
  for (Index t = 0; t < inputs_TK.rows(); ++t) {
    const T* row = inputs_TK.row(t);
    if (!is_finite(row, features)) {
      ++nonfinite_tokens_;
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
