#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/model/block_runner.h"
#include "calque/model/weight_source.h"
#include "calque/text/corpus.h"

namespace calque::eval {

// Which predicted positions of a window enter the perplexity.
enum class PerplexityRule {
  kHuggingFace,  // all seqlen - 1 predictions of non-overlapping windows
  kLlamaCpp,  // predictions made at positions seqlen/2 ... seqlen-2 (formats_gguf.md section 7.1)
};

struct PerplexityResult {
  double value = 0;        // exp of the mean negative log-likelihood
  double uncertainty = 0;  // standard error: value * sqrt(var(nll) / (count - 1))
  std::int64_t predictions = 0;
};

// Divergence of a model's next-token distributions from the reference's, over all predictions of
// the Hugging Face rule, in nats, computed in double from fp32 logits. Percentiles interpolate
// linearly.
struct DivergenceResult {
  double kl_mean = 0;
  double kl_mean_uncertainty = 0;  // standard error
  double kl_median = 0;
  double kl_p99 = 0;
  double kl_p999 = 0;
  double kl_max = 0;
  double top1_agreement = 0;  // share of predictions whose arg max is the reference's
  double rms_delta_p = 0;     // root mean square of q(correct) - p(correct)
};

struct ModelMetrics {
  std::string label;
  PerplexityResult perplexity_hf;
  PerplexityResult perplexity_llamacpp;
  DivergenceResult divergence;  // zeros for the reference itself
};

struct EvalModel {
  std::string label;
  const model::WeightSource* weights = nullptr;
  const model::ModelConfig* config = nullptr;
};

struct EvalOptions {
  model::RunnerOptions runner;
  // llama-perplexity overwrites the first token of every window with BOS when the vocabulary adds
  // one. Given here, its perplexity is computed on a second set of windows, changed that way.
  std::optional<std::int32_t> llamacpp_bos;
  std::function<void(Index done, Index total)> progress;  // steps of any size; may be empty
};

// Runs the reference and the candidates over the same windows, streamed block by block (one block
// of one model in memory at a time; final hidden states are kept, never all logits). The first
// entry of the result is the reference. Candidates must have the reference's vocabulary:
// Error(kConfig) otherwise.
std::vector<ModelMetrics> evaluate(const EvalModel& reference,
                                   const std::vector<EvalModel>& candidates,
                                   const text::TokenBlocks& windows, const EvalOptions& options);

}  // namespace calque::eval
