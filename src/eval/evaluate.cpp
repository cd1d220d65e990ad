#include "calque/eval/evaluate.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "calque/core/error.h"
#include "eval/lanes.h"

namespace calque::eval {
namespace {

void check_windows(const EvalModel& reference, const text::TokenBlocks& windows,
                   Index first_position) {
  if (windows.rows() == 0 || windows.seqlen() < first_position + 2)
    throw Error(ErrorKind::kConfig, "E232",
                fmt::format("evaluation needs at least one window of {} tokens, got {} of {}",
                            first_position + 2, windows.rows(), windows.seqlen()));
  for (Index b = 0; b < windows.rows(); ++b) {
    const std::string name = fmt::format("evaluation window {}", b);
    for (Index s = 0; s < windows.lengths_B[static_cast<std::size_t>(b)]; ++s)
      check_id(windows.ids_BS(b, s), reference, name);
    if (windows.next(b) >= 0) check_id(windows.next(b), reference, name);
  }
}

// The token that follows a position of a row, -1 where it is not known.
std::int32_t following(const text::TokenBlocks& rows, Index row, Index position) {
  const bool inside = position + 1 < rows.lengths_B[static_cast<std::size_t>(row)];
  return inside ? rows.ids_BS(row, position + 1) : rows.next(row);
}

// One span a row: every position from `first_position` on that predicts a known token.
std::vector<ScoredSpan> spans_of(const text::TokenBlocks& rows, Index first_position) {
  std::vector<ScoredSpan> spans;
  for (Index row = 0; row < rows.rows(); ++row) {
    ScoredSpan& span = spans.emplace_back(ScoredSpan{row, first_position, {}});
    const Index end = rows.lengths_B[static_cast<std::size_t>(row)] - (rows.next(row) < 0 ? 1 : 0);
    for (Index position = first_position; position < end; ++position)
      span.following.push_back(following(rows, row, position));
  }
  return spans;
}

ModelMetrics metrics_of(const Lane& lane, const text::TokenBlocks& rows,
                        const std::vector<ScoredSpan>& spans) {
  std::vector<Prediction> predictions = lane.predictions;
  std::vector<Index> of_window;
  std::size_t slot = 0;
  for (const ScoredSpan& span : spans) {
    of_window.push_back(span.count());
    for (Index i = 0; i < span.count(); ++i) {
      const Index position = span.first + i;
      predictions[slot++].second_half =
          position >= rows.seqlen() / 2 && position + 1 < rows.seqlen();
    }
  }
  ModelMetrics metrics;
  metrics.label = lane.model->label;
  metrics.kind = lane.model->kind;
  metrics.inputs = lane.model->inputs_name;
  if (const std::optional<KvCacheSpec>& cache = lane.model->kv_cache) {
    metrics.kv_cache = cache->name;
    metrics.kv_cache_bytes = kv_cache_bytes(*cache, lane.family, rows.seqlen());
  }
  metrics.perplexity_hf = perplexity(predictions, PerplexityRule::kHuggingFace);
  metrics.perplexity_llamacpp = perplexity(predictions, PerplexityRule::kLlamaCpp);
  metrics.divergence = divergence(predictions, of_window);
  return metrics;
}

std::string window_name(Index row) { return fmt::format("window {}", row); }

}  // namespace

std::vector<ModelMetrics> evaluate(const EvalModel& reference,
                                   const std::vector<EvalModel>& candidates,
                                   const text::TokenBlocks& windows, const EvalOptions& options) {
  check_vocabularies(reference, candidates);
  check_windows(reference, windows, options.first_position);
  Lanes lanes(reference, candidates, windows, options);
  lanes.run_blocks();
  const std::vector<ScoredSpan> spans = spans_of(windows, options.first_position);
  lanes.score(spans, window_name);
  std::vector<ModelMetrics> metrics;
  for (const Lane& lane : lanes.lanes()) metrics.push_back(metrics_of(lane, windows, spans));
  metrics.front().kind = ModelKind::kReference;
  return metrics;
}

std::vector<ModelMetrics> score(const std::vector<FinishedModel>& models,
                                const text::TokenBlocks& windows, const EvalOptions& options) {
  check_windows(models.front().model, windows, options.first_position);
  std::vector<Lane> lanes(models.size());
  for (std::size_t i = 0; i < models.size(); ++i) {
    lanes[i].start(models[i].model, options.runner);
    lanes[i].hidden = models[i].hidden;
  }
  const std::vector<ScoredSpan> spans = spans_of(windows, options.first_position);
  Scorer(lanes, spans, options.runner.threads, window_name)
      .run(options.held_elements, [](Index, Index) {});
  std::vector<ModelMetrics> metrics;
  for (const Lane& lane : lanes) metrics.push_back(metrics_of(lane, windows, spans));
  metrics.front().kind = ModelKind::kReference;
  return metrics;
}

}  // namespace calque::eval
