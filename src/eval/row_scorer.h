#pragma once

#include <vector>

#include "calque/eval/metrics.h"
#include "calque/text/corpus.h"
#include "eval/lane.h"

namespace calque::eval {

// Positions of a row that predict a token: those before its last, and the last where the token that
// comes after the row is known.
Index predicting_positions(const text::TokenBlocks& rows, Index row);

// Scores one row for the reference and some candidates, into their predictions.
class RowScorer {
 public:
  RowScorer(Lane& reference, const std::vector<Lane*>& candidates, const text::TokenBlocks& rows);

  // Predictions made at positions `begin` and later.
  void score(Index row, Index begin) const;

 private:
  std::size_t size() const { return static_cast<std::size_t>(vocab_size_); }
  void record(Lane& lane, Index row, Index position, const Distribution& reference,
              const Distribution& candidate) const;

  Lane& reference_;
  const std::vector<Lane*>& candidates_;
  const text::TokenBlocks& rows_;
  Index vocab_size_ = 0;
  Index chunk_ = 0;
};

}  // namespace calque::eval
