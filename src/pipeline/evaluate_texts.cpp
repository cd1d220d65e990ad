#include "calque/pipeline/evaluate_texts.h"

#include <fmt/format.h>

#include <algorithm>

#include "pipeline/job_tokens.h"

namespace calque::pipeline {
namespace {

Index blocks_of(const EvaluationWork& work) {
  Index blocks = work.original.config->num_layers;
  for (const eval::EvalModel& artifact : work.artifacts)
    blocks = std::max(blocks, artifact.config->num_layers);
  return blocks;
}

class TextsEvaluation {
 public:
  TextsEvaluation(const EvaluationWork& work, Observer& observer)
      : work_(work), observer_(observer), texts_(work.settings.named_texts()) {}

  std::vector<EvaluationReport> run() {
    for (const EvaluationText& text : texts_) evaluate(text, work_.settings.seqlen);
    return std::move(reports_);
  }

 private:
  void evaluate(const EvaluationText& text, Index seqlen) {
    text::PackedTokens packed = evaluation_tokens(text, seqlen, work_.tokenizer,
                                                  work_.original.config->vocab_size, work_.shared);
    const std::vector<eval::EvalModel> candidates = work_.artifacts;
    observer_.phase_started(texts_.size() > 1 ? fmt::format("evaluate {}", text.name) : "evaluate",
                            (blocks_of(work_) + 1) * static_cast<Index>(1 + candidates.size()));
    EvaluationReport report;
    report.text = text.name;
    report.seqlen = packed.blocks.seqlen();
    report.windows = packed.blocks.rows();
    report.models = eval::evaluate(work_.original, candidates, packed.blocks,
                                   {.runner = work_.runner,
                                    .llamacpp_bos = bos_of(text, work_.tokenizer),
                                    .reference_states = work_.reference_states,
                                    .progress = [&](Index done, Index) { observer_.step(done); }});
    report.manifest = std::move(packed.manifest);
    reports_.push_back(std::move(report));
  }

  const EvaluationWork& work_;
  Observer& observer_;
  std::vector<EvaluationText> texts_;
  std::vector<EvaluationReport> reports_;
};

}  // namespace

std::vector<EvaluationReport> evaluate_texts(const EvaluationWork& work, Observer& observer) {
  return TextsEvaluation(work, observer).run();
}

const eval::ModelMetrics* EvaluationReport::artifact(std::size_t index) const {
  for (const eval::ModelMetrics& model : models) {
    if (model.kind != eval::ModelKind::kArtifact || !model.kv_cache.empty()) continue;
    if (index-- == 0) return &model;
  }
  return nullptr;
}

}  // namespace calque::pipeline
