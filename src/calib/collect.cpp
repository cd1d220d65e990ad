#include "calque/calib/collect.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/core/error.h"
#include "calque/kernels/gram.h"

namespace calque::calib {
namespace {

// Enough to spread the cost of a pass over the Gram matrix; 32 MiB of fp32 at 4096 features.
constexpr Index kBlockRows = 2048;

InputStats empty_stats(Index features) {
  InputStats stats;
  stats.gram_KK = Matrix<float>(features, features);
  stats.magnitude_K.assign(static_cast<std::size_t>(features), 0.0);
  return stats;
}

}  // namespace

StatsCollector::StatsCollector(Index features, const Exec& exec)
    : features_(features), exec_(exec), stats_(empty_stats(features)) {}

void StatsCollector::add(const model::ActivationView& inputs_TK) {
  if (inputs_TK.cols() != features_)
    throw Error(ErrorKind::kInternal, "",
                fmt::format("statistics: got rows of {} features, expected {}", inputs_TK.cols(),
                            features_));
  if (inputs_TK.is_bf16())
    gather(inputs_TK.bf16_TK, pending_bf16_TK_);
  else
    gather(inputs_TK.f32_TK, pending_f32_TK_);
}

template <typename T>
void StatsCollector::gather(MatrixView<const T> inputs_TK, Matrix<T>& pending_TK) {
  if (pending_TK.empty()) {
    flush();
    pending_TK = Matrix<T>::uninitialized(kBlockRows, features_);
    if (stats_.gram_KK.empty()) stats_ = empty_stats(features_);
  }
  for (Index t = 0; t < inputs_TK.rows(); ++t) {
    std::copy_n(inputs_TK.row(t), features_, pending_TK.row(pending_rows_++));
    if (pending_rows_ == kBlockRows) flush();
  }
}

void StatsCollector::flush() {
  if (pending_rows_ == 0) return;
  const Index rows = std::exchange(pending_rows_, 0);
  const GramCount count =
      pending_f32_TK_.empty()
          ? accumulate_gram(std::as_const(pending_bf16_TK_).view().rows(0, rows), stats_.gram_KK,
                            stats_.magnitude_K, exec_)
          : accumulate_gram(std::as_const(pending_f32_TK_).view().rows(0, rows), stats_.gram_KK,
                            stats_.magnitude_K, exec_);
  stats_.tokens += count.rows;
  stats_.nonfinite_tokens += count.nonfinite_rows;
}

InputStats StatsCollector::finish() {
  flush();
  pending_f32_TK_ = {};
  pending_bf16_TK_ = {};
  return std::exchange(stats_, {});
}

}  // namespace calque::calib
