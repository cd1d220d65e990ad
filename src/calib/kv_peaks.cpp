#include "calque/calib/kv_peaks.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace calque::calib {
namespace {

std::vector<float> largest_of(const forward::KvRows& rows) {
  std::vector<float> largest_H(static_cast<std::size_t>(rows.heads), 0.0f);
  for (Index s = 0; s < rows.rows_SD.rows(); ++s) {
    float& largest = largest_H[static_cast<std::size_t>(rows.head_of(s))];
    for (Index d = 0; d < rows.rows_SD.cols(); ++d)
      largest = std::max(largest, std::abs(rows.rows_SD(s, d)));
  }
  return largest_H;
}

void raise(std::vector<float>& largest_H, const std::vector<float>& seen_H) {
  largest_H.resize(std::max(largest_H.size(), seen_H.size()), 0.0f);
  for (std::size_t h = 0; h < seen_H.size(); ++h) largest_H[h] = std::max(largest_H[h], seen_H[h]);
}

}  // namespace

void KvPeaks::round_keys(const forward::KvRows& rows) const {
  const std::vector<float> seen_H = largest_of(rows);
  const std::lock_guard lock(mutex_);
  raise(largest_.keys, seen_H);
}

void KvPeaks::round_values(const forward::KvRows& rows) const {
  const std::vector<float> seen_H = largest_of(rows);
  const std::lock_guard lock(mutex_);
  raise(largest_.values, seen_H);
}

KvNumbers KvPeaks::take() const {
  const std::lock_guard lock(mutex_);
  return std::exchange(largest_, {});
}

}  // namespace calque::calib
