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
  double seconds = 0;                                   // that its blocks took
  std::vector<Prediction> predictions;                  // all that is scored, in order

  void start(const EvalModel& source, const forward::RunnerOptions& common);
  void embed(const text::TokenBlocks& rows);

  bool is_done() const { return hidden != nullptr; }
};

}  // namespace calque::eval
