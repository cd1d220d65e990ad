#include "forecast/evaluation_work.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <vector>

#include "calque/forward/cost.h"
#include "calque/job/evaluation_settings.h"

namespace calque::forecast {
namespace {

// All models over one text, in windows of one length.
struct Round {
  double length = 0;
  double windows = 0;  // that are measured
  double copies = 1;   // with a BOS each is run once more
  double models = 0;   // that are run beside the reference
};

double bytes_of_file(const job::EvaluationText& text) {
  std::error_code failed;
  const auto bytes = std::filesystem::file_size(text.file(), failed);
  return failed ? 0 : static_cast<double>(bytes);
}

// At four characters, or bytes of an id, a token.
double tokens_in(const job::EvaluationText& text) { return bytes_of_file(text) / 4; }

// Lengths of the windows that caches are measured in, for one text.
std::vector<Index> cache_lengths(const job::EvaluationSettings& settings, const job::EvaluationText& text,
                                 const model::ModelConfig& config) {
  if (settings.kv_cache.empty()) return {};
  auto longest = static_cast<Index>(tokens_in(text));
  if (config.max_positions > 0) longest = std::min(longest, config.max_positions);
  return cache_seqlens(settings, std::max(longest, settings.seqlen));
}

// As evaluate_texts.cpp goes through them.
std::vector<Round> rounds_of(const job::EvaluationSettings& settings, const model::ModelConfig& config,
                             double artifacts) {
  const double plain = artifacts + (settings.noise_floor ? 1 : 0);
  const double cached = static_cast<double>(settings.kv_cache.size()) * (1 + artifacts);
  std::vector<Round> rounds;
  for (const job::EvaluationText& text : settings.named_texts()) {
    std::vector<Index> lengths = cache_lengths(settings, text, config);
    const bool own = std::find(lengths.begin(), lengths.end(), settings.seqlen) != lengths.end();
    const double tokens =
        *text.windows > 0 ? static_cast<double>(*text.windows * settings.seqlen) : tokens_in(text);
    const double copies = text.tokens.empty() && config.bos_token_id ? 2 : 1;
    const auto seqlen = static_cast<double>(settings.seqlen);
    rounds.push_back({seqlen, tokens / seqlen, copies, plain + (own ? cached : 0)});
    for (const Index length : lengths)
      if (length != settings.seqlen)
        rounds.push_back({static_cast<double>(length),
                          std::max(1.0, tokens / static_cast<double>(length)), copies,
                          plain + cached});
  }
  return rounds;
}

// Of one model, as if it were the calibration's.
Work lane_work(const model::FamilySpec& family, double sequences, double length) {
  Work lane;
  for (const model::BlockSpec& block : family.blocks) {
    lane += between_linears(family.config, block, sequences, length);
    for (const model::SiteSpec& site : block.sites) {
      const double tokens = forward::tokens_at(block, site, sequences * length);
      for (const model::LinearSpec& linear : site.readers)
        lane[WorkKind::kLinears] += 2 * static_cast<double>(linear.out_features()) *
                                    static_cast<double>(linear.in_features()) * tokens;
    }
    for (const model::TensorSpec& tensor : block.tensors()) {
      double weights = 1;
      for (const Index n : tensor.shape) weights *= static_cast<double>(n);
      lane[WorkKind::kLoadedWeights] += weights;
    }
  }
  return lane;
}

}  // namespace

Work between_linears(const model::ModelConfig& config, const model::BlockSpec& block,
                     double sequences, double length) {
  const Cost cost = forward::between_linears_cost(block, config.hidden_size, sequences, length);
  Work work;
  work[WorkKind::kAttention] = cost.flops;
  work[WorkKind::kScores] = cost.exponentials;
  work[WorkKind::kElements] = cost.elements;
  return work;
}

Work evaluation_work(const job::Job& job, const model::FamilySpec& family,
                     const std::vector<formats::ExportPlan>& plans) {
  Work work;
  if (!job.evaluate) return work;
  const job::EvaluationSettings& settings = *job.evaluate;
  const auto artifacts = static_cast<double>(plans.size());
  const auto vocabulary = static_cast<double>(family.config.vocab_size);
  const auto hidden = static_cast<double>(family.config.hidden_size);
  const auto other_heads = static_cast<double>(
      std::count_if(plans.begin(), plans.end(), [&](const formats::ExportPlan& plan) {
        return plan.at(family.head().name).grid.has_value();
      }));
  for (const Round& round : rounds_of(settings, family.config, artifacts)) {
    const double models = 1 + round.models;
    const Work lane = lane_work(family, round.windows * round.copies, round.length);
    work[WorkKind::kEvaluatedLinears] += models * lane[WorkKind::kLinears];
    work[WorkKind::kEvaluatedAttention] += models * lane[WorkKind::kAttention];
    work[WorkKind::kEvaluatedScores] += models * lane[WorkKind::kScores];
    work[WorkKind::kEvaluatedElements] += models * lane[WorkKind::kElements];
    work[WorkKind::kEvaluatedWeights] += models * lane[WorkKind::kLoadedWeights];
    // eval/evaluate.cpp: the reference again for every other head; of windows with a BOS the second
    // half.
    const double scored = round.models + std::max(1.0, other_heads);
    const double positions =
        round.windows * (round.length - 1) + (round.copies - 1) * round.windows * round.length / 2;
    work[WorkKind::kHeads] += 2 * scored * positions * vocabulary * hidden;
    work[WorkKind::kProbabilities] += scored * positions * vocabulary;
  }
  for (const job::EvaluationText& text : settings.named_texts())
    if (!text.text.empty()) work[WorkKind::kEvaluatedBytes] += bytes_of_file(text);
  return work;
}

}  // namespace calque::forecast
