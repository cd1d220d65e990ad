#pragma once

#include <memory>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/eval/metrics.h"
#include "calque/forward/block_runner.h"
#include "calque/model/family.h"
#include "calque/text/corpus.h"

namespace calque::eval {

// One model on its way through the blocks.
struct Lane {
  const EvalModel* model = nullptr;
  forward::RunnerOptions options;
  model::FamilySpec family;
  std::unique_ptr<forward::BlockRunner> runner;
  std::unique_ptr<forward::HiddenStates> running;       // until the last block
  std::shared_ptr<const forward::HiddenStates> hidden;  // after it
  std::shared_ptr<forward::Head> head;
  bool has_reference_head = false;      // set by scoring_rounds
  double seconds = 0;                   // that its blocks took
  std::vector<Prediction> predictions;  // rows * seqlen, in order

  void start(const EvalModel& source, const forward::RunnerOptions& common);
  void embed(const text::TokenBlocks& rows);
  void make_head();
  void free();  // what scoring needed

  bool is_done() const { return hidden != nullptr; }
};

// Candidates that are scored together, so that no more than two heads are in memory: the
// reference's, which serves all whose head was left as it is, and one other, which serves all
// candidates with the same weights. `lanes`: the reference first.
std::vector<std::vector<Lane*>> scoring_rounds(std::vector<Lane>& lanes);

// The heads of one round; the reference must have its own.
void make_heads(Lane& reference, const std::vector<Lane*>& candidates);

}  // namespace calque::eval
