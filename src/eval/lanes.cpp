#include "eval/lanes.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "calque/core/error.h"

namespace calque::eval {

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

void check_id(std::int32_t id, const EvalModel& model, const std::string& place) {
  const Index vocab_size = model.config->vocab_size;
  if (id >= 0 && id < vocab_size) return;
  throw Error(
      ErrorKind::kInput, "E233",
      fmt::format("token id {} in {} is outside the vocabulary of '{}' ({} tokens); was the "
                  "text tokenized for another model?",
                  id, place, model.label, vocab_size));
}

Lanes::Lanes(const EvalModel& reference, const std::vector<EvalModel>& candidates,
             const text::TokenBlocks& rows, const EvalOptions& options)
    : rows_(rows), options_(options), lanes_(1 + candidates.size()) {
  for (std::size_t i = 0; i < lanes_.size(); ++i)
    lanes_[i].start(i == 0 ? reference : candidates[i - 1], options.runner);
  start_reference();
  for (std::size_t i = 1; i < lanes_.size(); ++i) lanes_[i].embed(rows);
  for (const Lane& lane : lanes_) blocks_ = std::max(blocks_, lane.family.blocks.size());
}

void Lanes::run_blocks() {
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

void Lanes::score(const std::vector<ScoredSpan>& spans,
                  const std::function<std::string(Index row)>& name_row) {
  const Index before = done_;
  const auto models = static_cast<Index>(lanes_.size());
  Scorer(lanes_, spans, options_.runner.threads, name_row)
      .run(options_.held_elements, [&](Index tokens, Index all) {
        while (done_ < before + models * tokens / all) advance();
      });
}

void Lanes::start_reference() {
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

bool Lanes::is_first_of_its_weights(std::size_t index) const {
  for (std::size_t i = 0; i < index; ++i)
    if (lanes_[i].model->weights == lanes_[index].model->weights) return false;
  return true;
}

// Loads a block once for all lanes that have the same weights.
void Lanes::run_block(std::size_t layer, std::size_t first) {
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
    lane.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    advance();
  }
}

void Lanes::advance() {
  ++done_;
  if (options_.progress) options_.progress(done_, steps());
}

}  // namespace calque::eval
