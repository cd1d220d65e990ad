#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/cost.h"
#include "calque/eval/kv_cache.h"
#include "calque/eval/reference_states.h"
#include "calque/forward/block_runner.h"
#include "calque/model/weight_source.h"
#include "calque/record/measurement.h"
#include "calque/text/corpus.h"

namespace calque::eval {

// Rule for the predicted positions of a window that count towards the perplexity.
enum class PerplexityRule {
  kHuggingFace,  // all of non-overlapping windows
  kLlamaCpp,     // those made at positions seqlen/2 ... seqlen-2, as llama-perplexity does
};

using record::DivergenceResult;
using record::Interval;
using record::KlHistogram;
using record::ModelKind;
using record::PerplexityResult;
using ModelMetrics = record::Measurement;

struct EvalModel {
  std::string label;
  const model::WeightSource* weights = nullptr;
  const model::ModelConfig* config = nullptr;
  ModelKind kind = ModelKind::kArtifact;            // the first model counts as kReference
  std::optional<forward::ComputeDType> dtype = {};  // nullopt: the options'
  std::optional<KvCacheSpec> kv_cache = {};
  // Roundings of the linears' inputs, as a server would do them, and their name in tables.
  std::shared_ptr<const InputGrids> inputs = nullptr;
  std::string inputs_name = "";
  // The rounding of keys and values that the model's files ask for, unless kv_cache says another;
  // inputs_name tells it, too.
  std::shared_ptr<const forward::KvCacheRounding> own_kv_cache = nullptr;
};

struct EvalOptions {
  forward::RunnerOptions runner;
  // Predictions made at earlier positions are not scored: those of a prefix's own tokens.
  Index first_position = 0;
  // Reuses the results of earlier evaluations of the same reference and adds those of this one.
  // Null: nothing is kept. The results have the same bits either way.
  std::shared_ptr<ReferenceStates> reference_states = nullptr;
  // Elements of heads that are in memory at a time; at least a strip of each is. Results are the
  // same bits with any number.
  Index held_elements = kHeldElements;
  std::function<void(Index done, Index total)> progress;  // steps of any size; may be empty
};

// EvalOptions::first_position of windows that begin with so many tokens which nobody predicts.
constexpr Index first_scored(std::size_t prefix) {
  return prefix == 0 ? 0 : static_cast<Index>(prefix) - 1;
}

// Runs the reference and the candidates over the same windows, streamed block by block (one block
// of one model in memory at a time; final hidden states are kept, never all logits). The first
// entry of the result is the reference. Candidates must have the reference's vocabulary:
// Error(kConfig) otherwise.
std::vector<ModelMetrics> evaluate(const EvalModel& reference,
                                   const std::vector<EvalModel>& candidates,
                                   const text::TokenBlocks& windows, const EvalOptions& options);

// A model that has run: with its hidden states after the last block, a row for each window.
struct FinishedModel {
  EvalModel model;
  std::shared_ptr<const forward::HiddenStates> hidden;
};

// Scores models that have run over the same windows; the first is the reference. The results are
// those of evaluate() where the hidden states are.
std::vector<ModelMetrics> score(const std::vector<FinishedModel>& models,
                                const text::TokenBlocks& windows, const EvalOptions& options);

}  // namespace calque::eval
