#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/forward/block_runner.h"
#include "calque/text/corpus.h"
#include "eval/lane.h"
#include "eval/softmax_sum.h"

namespace calque::eval {

// Positions of a row that predict a token: those before its last, and the last where the token that
// comes after the row is known.
Index predicting_positions(const text::TokenBlocks& rows, Index row);

// Scores all lanes, the reference first, into their predictions. The vocabulary is outermost: of
// every head some strips are in memory at a time, and all positions of all lanes are multiplied by
// them. So heads are read once, the reference's logits are made once for all candidates, and
// nothing but sums of a few numbers a position grows with text or vocabulary.
class Scorer {
 public:
  // Lanes have their final hidden states; predictions are made at `first_position` and later.
  Scorer(std::vector<Lane>& lanes, const text::TokenBlocks& rows, Index first_position,
         int threads);

  // `held_elements`: EvalOptions'. `progress(done, total)` counts tokens of the vocabulary.
  void run(Index held_elements, const std::function<void(Index, Index)>& progress);

 private:
  using Heads = std::vector<std::unique_ptr<forward::Head>>;  // a strip each

  // Some positions of one row.
  struct Tile {
    Index row = 0;
    Index first = 0;
    Index count = 0;
  };
  struct Logits;

  void load(Index first_token, Index tokens);
  void score(const Tile& tile, Index first_token, Index tokens);
  void score_strip(const Tile& tile, Index strip, Index first_token, Logits& logits);
  void add(std::size_t lane, const Tile& tile, Index first_token, MatrixView<const float> logits_TV,
           Logits& logits);
  // Error(kNumerical, "E403") naming model, window and position unless all logits make
  // distributions, and all comparisons numbers.
  void require_distributions() const;
  void require_numbers() const;
  template <typename Body>
  void each_position(const Body& body) const;
  void finish(Index row);

  std::size_t slot(Index row, Index position) const {
    return static_cast<std::size_t>(row * rows_.seqlen() + position);
  }
  std::int32_t correct(Index row, Index position) const;
  Index vocab_size() const { return lanes_.front().model->config->vocab_size; }

  std::vector<Lane>& lanes_;
  const text::TokenBlocks& rows_;
  Index first_position_;
  int threads_;
  std::vector<Tile> tiles_;
  std::vector<std::size_t> owner_;             // for each lane, the first lane with the same head
  std::vector<Heads> heads_;                   // a lane; empty where another one is the owner
  std::vector<std::vector<SoftmaxSum>> sums_;  // a lane, a slot
};

}  // namespace calque::eval
