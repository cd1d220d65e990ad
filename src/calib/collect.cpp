#include "calque/calib/collect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "calque/core/error.h"

namespace calque::calib {
namespace {

quant::InputStats stats_of(GramSum::Result sums) {
  quant::InputStats stats;
  stats.gram_KK = std::move(sums.gram_KK);
  stats.magnitude_K = std::move(sums.magnitude_K);
  stats.tokens = sums.count.rows;
  stats.nonfinite_tokens = sums.count.nonfinite_rows;
  stats.first_nonfinite_token = sums.count.first_nonfinite_row;
  return stats;
}

}  // namespace

StatsCollector::StatsCollector(Index features, const Exec& exec, bool peaks)
    : features_(features),
      exec_(exec),
      largest_K_(peaks ? static_cast<std::size_t>(features) : 0, 0.0f) {}

void StatsCollector::add(const forward::ActivationView& inputs_TK) {
  if (inputs_TK.cols() != features_)
    throw Error(ErrorKind::kInternal, "",
                fmt::format("statistics: got rows of {} features, expected {}", inputs_TK.cols(),
                            features_));
  if (inputs_TK.on_device() && !largest_K_.empty())
    throw Error(ErrorKind::kInternal, "", "statistics: peaks of rows on a GPU");
  if (inputs_TK.on_device())
    sum().add(inputs_TK.device_TK);
  else if (inputs_TK.is_bf16())
    gather(inputs_TK.bf16_TK, pending_bf16_TK_);
  else
    gather(inputs_TK.f32_TK, pending_f32_TK_);
}

template <typename T>
void StatsCollector::gather(MatrixView<const T> inputs_TK, Matrix<T>& pending_TK) {
  Index t = 0;
  // Whole blocks need no copy.
  for (; pending_rows_ == 0 && t + kGramRows <= inputs_TK.rows(); t += kGramRows)
    add_block(inputs_TK.rows(t, kGramRows));
  if (t < inputs_TK.rows() && pending_TK.empty())
    pending_TK = Matrix<T>::uninitialized(kGramRows, features_);
  for (; t < inputs_TK.rows(); ++t) {
    std::copy_n(inputs_TK.row(t), features_, pending_TK.row(pending_rows_++));
    if (pending_rows_ == kGramRows) flush();
  }
}

template <typename T>
void StatsCollector::add_block(MatrixView<const T> block_TK) {
  for (Index t = 0; t < block_TK.rows() && !largest_K_.empty(); ++t) {
    const T* row = block_TK.row(t);
    for (std::size_t k = 0; k < largest_K_.size(); ++k)
      largest_K_[k] = std::max(largest_K_[k], std::abs(widened(row[k])));
  }
  sum().add(block_TK);
}

void StatsCollector::flush() {
  if (pending_rows_ == 0) return;
  const Index rows = std::exchange(pending_rows_, 0);
  if (pending_f32_TK_.empty())
    add_block(std::as_const(pending_bf16_TK_).view().rows(0, rows));
  else
    add_block(std::as_const(pending_f32_TK_).view().rows(0, rows));
}

GramSum& StatsCollector::sum() {
  if (!sum_) sum_.emplace(features_, exec_);
  return *sum_;
}

quant::InputStats StatsCollector::finish() {
  flush();
  pending_f32_TK_ = {};
  pending_bf16_TK_ = {};
  quant::InputStats stats = stats_of(sum().finish());
  sum_.reset();
  stats.largest_K = largest_K_;
  std::fill(largest_K_.begin(), largest_K_.end(), 0.0f);
  return stats;
}

}  // namespace calque::calib
