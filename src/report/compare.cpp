#include "calque/report/compare.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/units.h"

namespace calque::report {
namespace {

bool is_measured(const Point& point) { return point.main() != nullptr; }

void sort_into_groups(Comparison& comparison) {
  std::ranges::stable_sort(comparison.models, {},
                           [](const ComparedModel& m) { return m.point.bytes; });
  std::size_t group = 0;
  std::uint64_t smallest = 0;
  for (ComparedModel& m : comparison.models) {
    if (smallest > 0 &&
        static_cast<double>(m.point.bytes) > kSimilarSize * static_cast<double>(smallest)) {
      ++group;
      smallest = 0;
    }
    if (smallest == 0) smallest = std::max<std::uint64_t>(m.point.bytes, 1);
    m.group = group;
  }
}

// The originals of the models, without duplicates: "demo (13.0 MiB)".
std::set<std::string> originals(const std::vector<ComparedModel>& models) {
  std::set<std::string> names;
  for (const ComparedModel& m : models)
    names.insert(fmt::format("{} ({})", m.point.base.name.empty() ? "unnamed" : m.point.base.name,
                             bytes_text(m.point.base.tensor_bytes)));
  if (names.size() == 1) names.insert("another of the same name and size");
  return names;
}

// Originals differ if their names differ (both known), their sizes, or their perplexities on the
// same tokens by more than the forward pass's dtype explains.
bool same_original(const Point& a, const Point& b) {
  if (!a.base.name.empty() && !b.base.name.empty() && a.base.name != b.base.name) return false;
  if (a.base.tensor_bytes != b.base.tensor_bytes) return false;
  const Quality &p = *a.main(), &q = *b.main();
  const bool same_tokens = !p.tokens_sha256.empty() && p.tokens_sha256 == q.tokens_sha256;
  return !same_tokens || p.perplexity_original == 0 || q.perplexity_original == 0 ||
         std::abs(p.perplexity_original / q.perplexity_original - 1) < 0.01;
}

// The tokens that a model was measured on, as far as they are known.
std::string tokens_of(const Quality& q) {
  return q.tokens_sha256.empty() ? fmt::format("{} at {}", q.text, q.seqlen) : q.tokens_sha256;
}

void check_what_compares(Comparison& comparison) {
  const Point* first = nullptr;
  bool same_base = true, same_tokens = true;
  std::set<std::string> texts;
  for (const ComparedModel& m : comparison.models) {
    if (!is_measured(m.point)) continue;
    if (first == nullptr) first = &m.point;
    same_base = same_base && same_original(*first, m.point);
    same_tokens = same_tokens && tokens_of(*first->main()) == tokens_of(*m.point.main());
    texts.insert(fmt::format("{} ({} tokens)", m.point.main()->text, m.point.main()->seqlen));
  }
  comparison.kl_compares = same_base && same_tokens;
  comparison.perplexity_compares = same_tokens;
  if (!same_base)
    comparison.warnings.push_back(fmt::format(
        "the originals differ: {}. KL divergence measures the distance to a model's own original, "
        "so "
        "it cannot tell which of these models is better. {}",
        fmt::join(originals(comparison.models), ", "),
        same_tokens
            ? "Perplexity is comparable: it was measured on the same tokens"
            : "Evaluate them on the same text with the same tokenizer to compare perplexity"));
  if (!same_tokens)
    comparison.warnings.push_back(
        fmt::format("the results are from different tokens: {}. Neither perplexity nor KL "
                    "divergence is comparable between them; evaluate all models on one text with "
                    "one tokenizer and one seqlen",
                    fmt::join(texts, ", ")));
}

// A task of one name that asked different questions.
void check_tasks(Comparison& comparison) {
  std::vector<Point> points;
  for (const ComparedModel& m : comparison.models) points.push_back(m.point);
  for (const std::string& name : task_names(points)) {
    std::set<std::string> asked;
    for (const Point& point : points)
      if (const TaskQuality* task = point.find_task(name); task && !task->questions.empty())
        asked.insert(task->questions + " " + task->metric);
    if (asked.size() > 1)
      comparison.warnings.push_back(
          fmt::format("task '{}' asked different questions in these runs, or counts right answers "
                      "in another way, so that its results are not comparable; measure all models "
                      "with one file and one metric",
                      name));
  }
}

double loss_of(const Comparison& comparison, const Point& point) {
  return comparison.kl_compares ? point.main()->kl_mean.value : point.main()->perplexity.value;
}

// Nothing is marked best if figures are not comparable.
void mark_best(Comparison& comparison) {
  if (!comparison.perplexity_compares) return;
  for (ComparedModel& m : comparison.models) {
    if (!is_measured(m.point) || (comparison.kl_compares && !m.point.main()->has_kl)) continue;
    const auto beats = [&](const ComparedModel& other) {
      return other.group == m.group && is_measured(other.point) &&
             (!comparison.kl_compares || other.point.main()->has_kl) &&
             loss_of(comparison, other.point) < loss_of(comparison, m.point);
    };
    m.best = std::ranges::none_of(comparison.models, beats);
  }
}

}  // namespace

Comparison compare(std::vector<Point> points) {
  if (points.empty())
    throw Error(ErrorKind::kConfig, "E253",
                "there is nothing to compare: the folders hold no model that was written and no "
                "point that is done. Let the run or the sweep finish first");
  Comparison comparison;
  for (Point& point : points) comparison.models.push_back({std::move(point), 0, false});
  sort_into_groups(comparison);
  check_what_compares(comparison);
  check_tasks(comparison);
  mark_best(comparison);
  return comparison;
}

}  // namespace calque::report
