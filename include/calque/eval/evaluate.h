#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/eval/kv_cache.h"
#include "calque/eval/reference_states.h"
#include "calque/forward/block_runner.h"
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

struct Interval {
  double low = 0;
  double high = 0;
};

// How many predictions have a KL divergence of which size: bin i counts those from
// 10^(kLog10First + i kLog10Step) on; the first and the last bin take what lies beyond, too.
struct KlHistogram {
  static constexpr double kLog10First = -9;
  static constexpr double kLog10Step = 0.25;
  static constexpr std::size_t kBins = 44;  // up to 100 nats
  std::vector<std::int64_t> counts;         // kBins; empty: nothing was compared
};

// Divergence of a model's next-token distributions from the reference's, over all predictions of
// the Hugging Face rule, in nats, computed in double from fp32 logits. Percentiles interpolate
// linearly. Standard errors and 95 % intervals allow for predictions of one window being alike
// (eval/metrics.h says how).
struct DivergenceResult {
  double kl_mean = 0;
  double kl_mean_uncertainty = 0;  // standard error
  double kl_median = 0;
  double kl_p90 = 0;
  double kl_p99 = 0;
  double kl_p999 = 0;
  double kl_max = 0;
  Interval median_interval;
  Interval p90_interval;
  Interval p99_interval;
  Interval p999_interval;
  double top1_agreement = 0;              // share of predictions whose arg max is the reference's
  double top1_agreement_uncertainty = 0;  // standard error
  double rms_delta_p = 0;                 // root mean square of q(correct) - p(correct)
  KlHistogram kl_histogram;
};

// What a row of an evaluation is. The original with a rounded key/value cache is kOriginal.
enum class ModelKind { kReference, kNoiseFloor, kArtifact, kOriginal };
std::string_view name_of(ModelKind kind);  // "reference", "noise_floor", "artifact", "original"

struct ModelMetrics {
  std::string label;
  ModelKind kind = ModelKind::kArtifact;
  std::string kv_cache;              // name of the rounding of keys and values; "": none
  std::uint64_t kv_cache_bytes = 0;  // of one sequence of the windows' length; 0: not rounded
  PerplexityResult perplexity_hf;
  PerplexityResult perplexity_llamacpp;
  DivergenceResult divergence;  // zeros for the reference itself
};

struct EvalModel {
  std::string label;
  const model::WeightSource* weights = nullptr;
  const model::ModelConfig* config = nullptr;
  ModelKind kind = ModelKind::kArtifact;  // of the first one: kReference, whatever is said here
  std::optional<forward::ComputeDType> dtype = {};  // nullopt: the options'
  std::optional<KvCacheSpec> kv_cache = {};
};

struct EvalOptions {
  forward::RunnerOptions runner;
  // llama-perplexity overwrites the first token of every window with BOS when the vocabulary adds
  // one. Given here, its perplexity is computed on a second set of windows, changed that way.
  std::optional<std::int32_t> llamacpp_bos;
  // What earlier evaluations of the same reference left; what this one computes is added. Null:
  // nothing is kept. Results are the same bits with and without.
  std::shared_ptr<ReferenceStates> reference_states = nullptr;
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
