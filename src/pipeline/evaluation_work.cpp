#include "pipeline/evaluation_work.h"

#include <algorithm>
#include <filesystem>

namespace calque::pipeline {
namespace {

double read_bytes(const EvaluationSettings& settings) {
  std::error_code ignored;
  const auto bytes =
      std::filesystem::file_size(settings.text.empty() ? settings.tokens : settings.text, ignored);
  return ignored ? 0 : static_cast<double>(bytes);
}

// Of one model, as if it were the calibration's.
Work lane_work(const model::FamilySpec& family, double sequences, double length) {
  Work lane;
  for (const model::BlockSpec& block : family.blocks) {
    lane += between_linears(family.config, block, sequences, length);
    for (const model::SiteSpec& site : block.sites) {
      double tokens = sequences * length;
      if (site.expert >= 0)
        tokens *= static_cast<double>(block.experts.front().used) /
                  static_cast<double>(block.experts.front().count);
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
  Work work;
  const auto heads = static_cast<double>(config.num_heads);
  const auto head_dim = static_cast<double>(config.head_dim);
  const double keys = sequences * visible_keys(length, static_cast<double>(block.window));
  work[WorkKind::kAttention] = 4 * heads * head_dim * keys;
  work[WorkKind::kScores] = heads * keys;
  double width = static_cast<double>(config.intermediate_size);
  for (const model::ExpertsSpec& experts : block.experts)
    width = static_cast<double>(experts.used * config.expert_intermediate_size);
  // Norms twice (for the statistics, and on the way), residuals; rotated and reordered heads;
  // SwiGLU.
  work[WorkKind::kElements] =
      sequences * length *
      (6 * static_cast<double>(config.hidden_size) +
       3 * head_dim * (heads + 2 * static_cast<double>(config.num_kv_heads)) + 3 * width);
  return work;
}

EvaluatedWindows evaluated_windows(const EvaluationSettings& settings,
                                   const model::ModelConfig& config) {
  EvaluatedWindows evaluated;
  evaluated.windows = settings.windows > 0
                          ? static_cast<double>(settings.windows)
                          : read_bytes(settings) / (4 * static_cast<double>(settings.seqlen));
  evaluated.copies = settings.tokens.empty() && config.bos_token_id ? 2 : 1;
  return evaluated;
}

Work evaluation_work(const Job& job, const model::FamilySpec& family,
                     const std::vector<artifact::ExportPlan>& plans) {
  Work work;
  if (!job.evaluate) return work;
  const EvaluationSettings& settings = *job.evaluate;
  const auto [windows, copies] = evaluated_windows(settings, family.config);
  const auto length = static_cast<double>(settings.seqlen);
  const double models = 1 + static_cast<double>(plans.size());
  const Work lane = lane_work(family, windows * copies, length);
  work[WorkKind::kEvaluatedLinears] = models * lane[WorkKind::kLinears];
  work[WorkKind::kEvaluatedAttention] = models * lane[WorkKind::kAttention];
  work[WorkKind::kEvaluatedScores] = models * lane[WorkKind::kScores];
  work[WorkKind::kEvaluatedElements] = models * lane[WorkKind::kElements];
  work[WorkKind::kEvaluatedWeights] = models * lane[WorkKind::kLoadedWeights];
  if (!settings.text.empty()) work[WorkKind::kEvaluatedBytes] = read_bytes(settings);

  // eval/evaluate.cpp: the reference again for every other head; of windows with a BOS the second
  // half.
  const auto other_heads = static_cast<double>(
      std::count_if(plans.begin(), plans.end(), [&](const artifact::ExportPlan& plan) {
        return plan.at(family.head().name).grid.has_value();
      }));
  const double scored = models - 1 + std::max(1.0, other_heads);
  const double positions = windows * (length - 1) + (copies - 1) * windows * length / 2;
  const auto vocabulary = static_cast<double>(family.config.vocab_size);
  work[WorkKind::kHeads] =
      2 * scored * positions * vocabulary * static_cast<double>(family.config.hidden_size);
  work[WorkKind::kProbabilities] = scored * positions * vocabulary;
  return work;
}

}  // namespace calque::pipeline
