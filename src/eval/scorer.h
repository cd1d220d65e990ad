#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/forward/block_runner.h"
#include "eval/lane.h"
#include "eval/softmax_sum.h"

namespace calque::eval {

// Consecutive positions of a row that are scored, and the token that each should predict. Several
// spans may have the same positions. A token of -1 is any: only arg_max means something then.
struct ScoredSpan {
  Index row = 0;
  Index first = 0;
  std::vector<std::int32_t> following;

  Index count() const { return static_cast<Index>(following.size()); }
};

// Scores all lanes, the reference first, into their predictions, span by span in order. The
// vocabulary is outermost: of
// every head some strips are in memory at a time, and all positions of all lanes are multiplied by
// them. So heads are read once, the reference's logits are made once for all candidates, and
// nothing but sums of a few numbers a position grows with text or vocabulary.
class Scorer {
 public:
  // Lanes have their final hidden states. `name_row` names a row in messages ("window 3").
  Scorer(std::vector<Lane>& lanes, const std::vector<ScoredSpan>& spans, int threads,
         const std::function<std::string(Index row)>& name_row);

  // `held_elements`: EvalOptions'. `progress(done, total)` counts tokens of the vocabulary.
  void run(Index held_elements, const std::function<void(Index, Index)>& progress);

 private:
  using Heads = std::vector<std::unique_ptr<forward::Head>>;  // a strip each

  // Some positions of one span.
  struct Tile {
    const ScoredSpan* span = nullptr;
    Index first = 0;  // in the span
    Index count = 0;
    std::size_t slot = 0;  // the first one's

    Index position() const { return span->first + first; }
    std::int32_t following(Index t) const {
      return span->following[static_cast<std::size_t>(first + t)];
    }
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
  void finish(const Tile& tile);

  Index vocab_size() const { return lanes_.front().model->config->vocab_size; }

  std::vector<Lane>& lanes_;
  int threads_;
  const std::function<std::string(Index row)>& name_row_;
  std::vector<Tile> tiles_;
  std::vector<std::size_t> owner_;             // for each lane, the first lane with the same head
  std::vector<Heads> heads_;                   // a lane; empty where another one is the owner
  std::vector<std::vector<SoftmaxSum>> sums_;  // a lane, a slot: a position of a span
};

}  // namespace calque::eval
