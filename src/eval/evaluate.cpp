#include "calque/eval/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "calque/core/error.h"
#include "eval/lane.h"
#include "eval/scorer.h"

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

void check_id(std::int32_t id, const EvalModel& reference, Index window) {
  const Index vocab_size = reference.config->vocab_size;
  if (id >= 0 && id < vocab_size) return;
  throw Error(ErrorKind::kInput, "E233",
              fmt::format("token id {} in evaluation window {} is outside the vocabulary of '{}' "
                          "({} tokens); was the text tokenized for another model?",
                          id, window, reference.label, vocab_size));
}

void check_windows(const EvalModel& reference, const text::TokenBlocks& windows,
                   Index first_position) {
  if (windows.rows() == 0 || windows.seqlen() < first_position + 2)
    throw Error(ErrorKind::kConfig, "E232",
                fmt::format("evaluation needs at least one window of {} tokens, got {} of {}",
                            first_position + 2, windows.rows(), windows.seqlen()));
  for (Index b = 0; b < windows.rows(); ++b) {
    for (Index s = 0; s < windows.lengths_B[static_cast<std::size_t>(b)]; ++s)
      check_id(windows.ids_BS(b, s), reference, b);
    if (windows.next(b) >= 0) check_id(windows.next(b), reference, b);
  }
}

ModelMetrics metrics_of(const Lane& lane, const text::TokenBlocks& rows, Index first_position) {
  std::vector<Prediction> predictions;
  std::vector<Index> of_window;
  for (Index row = 0; row < rows.rows(); ++row) {
    const auto slots = lane.predictions.begin() + row * rows.seqlen();
    const Index last = std::max(first_position, predicting_positions(rows, row));
    predictions.insert(predictions.end(), slots + first_position, slots + last);
    of_window.push_back(last - first_position);
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

  // The last of a model's steps are its share of the vocabulary.
  void score() {
    const Index before = done_;
    const auto models = static_cast<Index>(lanes_.size());
    Scorer(lanes_, rows_, options_.first_position, options_.runner.threads)
        .run(options_.held_elements, [&](Index tokens, Index all) {
          while (done_ < before + models * tokens / all) advance();
        });
  }

  std::vector<ModelMetrics> metrics() {
    std::vector<ModelMetrics> result;
    for (const Lane& lane : lanes_)
      result.push_back(metrics_of(lane, rows_, options_.first_position));
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
    ++done_;
    if (options_.progress)
      options_.progress(done_, static_cast<Index>((blocks_ + 1) * lanes_.size()));
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
  check_windows(reference, windows, options.first_position);
  Lanes lanes(reference, candidates, windows, options);
  lanes.run_blocks();
  lanes.score();
  return lanes.metrics();
}

}  // namespace calque::eval
