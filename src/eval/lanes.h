#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/text/corpus.h"
#include "eval/lane.h"
#include "eval/scorer.h"

namespace calque::eval {

// Error(kConfig, "E231") for a candidate with another vocabulary than the reference.
void check_vocabularies(const EvalModel& reference, const std::vector<EvalModel>& candidates);

// Error(kInput, "E233") for a token that the model does not know; `place`: "evaluation window 3".
void check_id(std::int32_t id, const EvalModel& model, const std::string& place);

// All models of one evaluation over the same rows, the reference first. Streamed block by block: a
// block is loaded once for all models that have the same weights.
class Lanes {
 public:
  // Arguments must outlive the object.
  Lanes(const EvalModel& reference, const std::vector<EvalModel>& candidates,
        const text::TokenBlocks& rows, const EvalOptions& options);

  void run_blocks();
  // The last of a model's steps are its share of the vocabulary. Fills the lanes' predictions.
  void score(const std::vector<ScoredSpan>& spans,
             const std::function<std::string(Index row)>& name_row);

  const std::vector<Lane>& lanes() const { return lanes_; }
  // Calls of options.progress until everything is scored.
  Index steps() const { return static_cast<Index>((blocks_ + 1) * lanes_.size()); }

 private:
  void start_reference();
  bool is_first_of_its_weights(std::size_t index) const;
  void run_block(std::size_t layer, std::size_t first);
  void advance();

  const text::TokenBlocks& rows_;
  const EvalOptions& options_;
  std::vector<Lane> lanes_;
  std::size_t blocks_ = 0;
  Index done_ = 0;
  bool from_before_ = false;  // the reference has run already
};

}  // namespace calque::eval
