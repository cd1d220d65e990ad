#include "calque/record/task.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace calque::record {

std::string_view name_of(TaskKind kind) {
  return kind == TaskKind::kMultipleChoice ? "multiple_choice" : "generation";
}

const std::string* TaskMeasurement::find(std::string_view metric) const {
  const auto found = std::ranges::find(scores, metric, &TaskScore::metric);
  return found == scores.end() ? nullptr : &found->right;
}

const TaskMeasurement* TaskReport::artifact(const std::string& label) const {
  const auto found = std::ranges::find_if(models, [&](const TaskMeasurement& m) {
    return m.kind == ModelKind::kArtifact && m.kv_cache.empty() && m.label == label;
  });
  return found == models.end() ? nullptr : &*found;
}

Share share_right(std::string_view right) {
  const auto n = static_cast<double>(right.size());
  if (n == 0) return {};
  const double p = static_cast<double>(std::ranges::count(right, '1')) / n;
  return {p, n > 1 ? std::sqrt(p * (1 - p) / (n - 1)) : 0};
}

PairedDifference paired_difference(std::string_view reference, std::string_view model) {
  assert(reference.size() == model.size());
  PairedDifference result;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    result.lost += reference[i] == '1' && model[i] != '1';
    result.won += reference[i] != '1' && model[i] == '1';
  }
  const auto n = static_cast<double>(reference.size());
  if (n == 0) return result;
  const auto sum = static_cast<double>(result.won - result.lost);
  const auto squares = static_cast<double>(result.won + result.lost);
  result.value = sum / n;
  if (n > 1) result.standard_error = std::sqrt((squares - sum * sum / n) / (n - 1) / n);
  result.p_value = mcnemar_exact(result.lost, result.won);
  return result;
}

// The terms C(m, k) / 2^m, k = 0 .. min(b, c), by their logarithms: 2^m overflows beyond m = 1023.
double mcnemar_exact(std::int64_t lost, std::int64_t won) {
  const auto m = static_cast<double>(lost + won);
  const std::int64_t fewer = std::min(lost, won);
  if (lost == won) return 1;
  double log_term = -m * std::log(2.0);
  double tail = 0;
  for (std::int64_t k = 0; k <= fewer; ++k) {
    tail += std::exp(log_term);
    const auto next = static_cast<double>(k + 1);
    log_term += std::log(m - next + 1) - std::log(next);
  }
  return std::min(1.0, 2 * tail);
}

}  // namespace calque::record
