#include "calque/eval/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "eval/lane.h"
#include "eval/row_scorer.h"

namespace calque::eval {
namespace {

void check_vocabularies(const EvalModel& reference, const std::vector<EvalModel>& candidates) {
  for (const EvalModel& candidate : candidates) {
    if (candidate.config->vocab_size == reference.config->vocab_size) continue;
    throw Error(
        ErrorKind::kConfig, "E231",
        fmt::format("cannot compare '{}' (vocabulary {}) with '{}' (vocabulary {}): KL "
                    "divergence needs the same tokens. Give the model that the artifact was "
                    "made from as the reference.",
                    candidate.label, candidate.config->vocab_size, reference.label,
                    reference.config->vocab_size));
  }
}

void check_windows(const EvalModel& reference, const text::TokenBlocks& windows) {
  if (windows.rows() == 0 || windows.seqlen() < 2)
    throw Error(ErrorKind::kConfig, "E232",
                fmt::format("evaluation needs at least one window of 2 tokens, got {} of {}",
                            windows.rows(), windows.seqlen()));
  const Index vocab_size = reference.config->vocab_size;
  for (Index b = 0; b < windows.rows(); ++b)
    for (Index s = 0; s < windows.lengths_B[static_cast<std::size_t>(b)]; ++s)
      if (windows.ids_BS(b, s) < 0 || windows.ids_BS(b, s) >= vocab_size)
        throw Error(ErrorKind::kInput, "E233",
                    fmt::format("token id {} in evaluation window {} is outside the vocabulary of "
                                "'{}' ({} tokens); was the text tokenized for another model?",
                                windows.ids_BS(b, s), b, reference.label, vocab_size));
}

// The windows that are run: those asked for, then (with a BOS) the same ones beginning with it.
text::TokenBlocks rows_to_run(const text::TokenBlocks& windows, std::optional<std::int32_t> bos) {
  const Index copies = bos ? 2 : 1;
  text::TokenBlocks rows;
  rows.ids_BS = Matrix<std::int32_t>::uninitialized(copies * windows.rows(), windows.seqlen());
  for (Index r = 0; r < rows.rows(); ++r) {
    const Index window = r % windows.rows();
    std::copy_n(windows.ids_BS.row(window), windows.seqlen(), rows.ids_BS.row(r));
    rows.lengths_B.push_back(windows.lengths_B[static_cast<std::size_t>(window)]);
    if (r >= windows.rows()) rows.ids_BS(r, 0) = *bos;
  }
  return rows;
}

// The predictions of rows [first, first + count), without the slots that short rows left empty.
std::vector<Prediction> predictions_of(const Lane& lane, const text::TokenBlocks& rows, Index first,
                                       Index count) {
  std::vector<Prediction> result;
  for (Index r = first; r < first + count; ++r) {
    const auto begin = lane.predictions.begin() + r * (rows.seqlen() - 1);
    result.insert(result.end(), begin, begin + rows.lengths_B[static_cast<std::size_t>(r)] - 1);
  }
  return result;
}

ModelMetrics metrics_of(const Lane& lane, const text::TokenBlocks& rows, Index windows) {
  const std::vector<Prediction> predictions = predictions_of(lane, rows, 0, windows);
  ModelMetrics metrics;
  metrics.label = lane.model->label;
  metrics.kind = lane.model->kind;
  if (const std::optional<KvCacheSpec>& cache = lane.model->kv_cache) {
    metrics.kv_cache = cache->name;
    metrics.kv_cache_bytes = kv_cache_bytes(*cache, lane.family, rows.seqlen());
  }
  metrics.perplexity_hf = perplexity(predictions, PerplexityRule::kHuggingFace);
  metrics.perplexity_llamacpp = perplexity(
      predictions_of(lane, rows, rows.rows() - windows, windows), PerplexityRule::kLlamaCpp);
  std::vector<Index> of_window;
  for (Index w = 0; w < windows; ++w)
    of_window.push_back(rows.lengths_B[static_cast<std::size_t>(w)] - 1);
  metrics.divergence = divergence(predictions, of_window);
  return metrics;
}

// All models of one evaluation, the reference first.
class Lanes {
 public:
  Lanes(const EvalModel& reference, const std::vector<EvalModel>& candidates,
        const text::TokenBlocks& rows, const EvalOptions& options)
      : rows_(rows), options_(options), lanes_(1 + candidates.size()) {
    for (std::size_t i = 0; i < lanes_.size(); ++i)
      lanes_[i].start(i == 0 ? reference : candidates[i - 1], options.runner);
    start_reference();
    for (std::size_t i = 1; i < lanes_.size(); ++i) lanes_[i].embed(rows);
    for (const Lane& lane : lanes_) blocks_ = std::max(blocks_, lane.family.blocks.size());
  }

  void run_blocks() {
    for (std::size_t layer = 0; layer < blocks_; ++layer)
      for (std::size_t i = 0; i < lanes_.size(); ++i)
        if (is_first_of_its_weights(i)) run_block(layer, i);
    for (Lane& lane : lanes_)
      if (!lane.is_done()) lane.hidden = std::move(lane.running);
    ReferenceStates* const states = options_.reference_states.get();
    Lane& reference = lanes_.front();
    if (states != nullptr && !from_before_)
      states->keep(rows_, reference.options, reference.hidden, reference.seconds);
  }

  void score(Index windows) {
    for (Lane& lane : lanes_)
      lane.predictions.resize(static_cast<std::size_t>(rows_.rows() * (rows_.seqlen() - 1)));
    Lane& reference = lanes_.front();
    reference.make_head();
    for (const std::vector<Lane*>& candidates : scoring_rounds(lanes_)) {
      make_heads(reference, candidates);
      const RowScorer scorer(reference, candidates, rows_);
      parallel_for(rows_.rows(), options_.runner.threads,
                   [&](Index row) { scorer.score(row, row < windows ? 0 : rows_.seqlen() / 2); });
      for (Lane* lane : candidates) lane->free();
    }
  }

  std::vector<ModelMetrics> metrics(Index windows) {
    std::vector<ModelMetrics> result;
    for (const Lane& lane : lanes_) {
      result.push_back(metrics_of(lane, rows_, windows));
      advance();
    }
    result.front().kind = ModelKind::kReference;
    return result;
  }

 private:
  void start_reference() {
    Lane& reference = lanes_.front();
    if (ReferenceStates* const states = options_.reference_states.get()) {
      if (states->scratch() != nullptr) {
        reference.options.scratch = states->scratch();
        reference.runner = forward::make_block_runner(*reference.model->config, reference.options);
      }
      reference.hidden = states->find(rows_, reference.options);
      from_before_ = reference.is_done();
    }
    if (!from_before_) reference.embed(rows_);
  }

  bool is_first_of_its_weights(std::size_t index) const {
    for (std::size_t i = 0; i < index; ++i)
      if (lanes_[i].model->weights == lanes_[index].model->weights) return false;
    return true;
  }

  // Loads a block once for all lanes that have the same weights.
  void run_block(std::size_t layer, std::size_t first) {
    const model::WeightSource* const source = lanes_[first].model->weights;
    const std::vector<model::BlockSpec>& blocks = lanes_[first].family.blocks;
    std::optional<model::BlockWeights> weights;
    for (Lane& lane : lanes_) {
      if (lane.model->weights != source) continue;
      const auto start = std::chrono::steady_clock::now();
      if (!lane.is_done() && layer < blocks.size())
        with_context(lane.model->label, [&] {
          if (!weights) weights = model::load_block(*source, blocks[layer]);
          lane.runner->run_block(lane.family.blocks[layer], *weights, *lane.running, nullptr);
        });
      lane.seconds +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      advance();
    }
  }

  void advance() {
    if (options_.progress)
      options_.progress(++done_, static_cast<Index>((blocks_ + 1) * lanes_.size()));
  }

  const text::TokenBlocks& rows_;
  const EvalOptions& options_;
  std::vector<Lane> lanes_;
  std::size_t blocks_ = 0;
  Index done_ = 0;
  bool from_before_ = false;  // the reference has run already
};

}  // namespace

std::vector<ModelMetrics> evaluate(const EvalModel& reference,
                                   const std::vector<EvalModel>& candidates,
                                   const text::TokenBlocks& windows, const EvalOptions& options) {
  check_vocabularies(reference, candidates);
  check_windows(reference, windows);
  const text::TokenBlocks rows = rows_to_run(windows, options.llamacpp_bos);
  Lanes lanes(reference, candidates, rows, options);
  lanes.run_blocks();
  lanes.score(windows.rows());
  return lanes.metrics(windows.rows());
}

}  // namespace calque::eval
