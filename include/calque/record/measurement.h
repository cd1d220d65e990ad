#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace calque::record {

struct PerplexityResult {
  double value = 0;        // exp of the mean negative log-likelihood
  double uncertainty = 0;  // standard error: value * sqrt(var(nll) / (count - 1))
  std::int64_t predictions = 0;
};

struct Interval {
  double low = 0;
  double high = 0;

  bool known() const { return high > 0; }  // files of earlier versions have none
};

// Number of predictions by size of their KL divergence: bin i counts those from
// 10^(kLog10First + i kLog10Step) on. The first and last bins also count everything beyond.
struct KlHistogram {
  static constexpr double kLog10First = -9;
  static constexpr double kLog10Step = 0.25;
  static constexpr std::size_t kBins = 44;  // up to 100 nats
  std::vector<std::int64_t> counts;         // kBins; empty: nothing was compared
  double log10_first = kLog10First;         // another version's file may have other bins
  double log10_step = kLog10Step;

  double edge(std::size_t bin) const;  // lower edge in nats
};

// Divergence of a model's next-token distributions from the reference's, over all predictions of
// the Hugging Face rule, in nats, computed in double from fp32 logits. Percentiles interpolate
// linearly. Standard errors and 95 % intervals allow for predictions of one window being alike
// (eval/metrics.h says how).
struct DivergenceResult {
  double kl_mean = 0;
  double kl_mean_uncertainty = 0;  // standard error
  double kl_typical = 0;           // geometric mean of the windows' means; not in records
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

// The kind of model in a row of an evaluation. The original with a rounded key/value cache is
// kOriginal.
enum class ModelKind { kReference, kNoiseFloor, kArtifact, kOriginal };
std::string_view name_of(ModelKind kind);  // "reference", "noise_floor", "artifact", "original"

// Results for one model on one text.
struct Measurement {
  std::string label;
  ModelKind kind = ModelKind::kArtifact;
  std::string inputs;                // rounding of linears' inputs: "FP8 a token"; "": none
  std::string kv_cache;              // name of the key/value rounding; "": none
  std::uint64_t kv_cache_bytes = 0;  // for one sequence of the window length; 0: not rounded
  PerplexityResult perplexity_hf;
  PerplexityResult perplexity_llamacpp;
  DivergenceResult divergence;  // zeros for the reference itself

  bool compared() const {  // false for the reference, and if the file has no numbers
    return kind != ModelKind::kReference &&
           (divergence.kl_mean != 0 || divergence.top1_agreement != 0);
  }
};

}  // namespace calque::record
