#include "calque/pipeline/evaluate_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "calque/formats/scheme.h"
#include "calque/job/evaluation_settings.h"

namespace calque::pipeline {
namespace {

Index blocks_of(const EvaluationWork& work) {
  Index blocks = work.original.config->num_layers;
  for (const eval::EvalModel& artifact : work.artifacts)
    blocks = std::max(blocks, artifact.config->num_layers);
  return blocks;
}

// Number of consecutive tokens: those of a text, or of one row of a file of token ids.
Index tokens_in_a_row(const job::EvaluationText& text, const text::SourceReport& source) {
  return text.tokens.empty() ? source.tokens : source.tokens / source.documents;
}

// At another window length a text keeps about the same number of tokens, or all windows if it had
// all.
Index windows_for(const job::EvaluationText& text, const record::EvaluationReport& measured,
                  Index seqlen) {
  if (*text.windows == 0) return 0;
  const text::SourceReport& source = measured.manifest.sources.front();
  const Index rows = text.tokens.empty() ? 1 : source.documents;
  const Index available = rows * (tokens_in_a_row(text, source) / seqlen);
  return std::clamp<Index>(measured.windows * measured.seqlen / seqlen, 1,
                           std::max<Index>(1, available));
}

class TextsEvaluation {
 public:
  TextsEvaluation(const EvaluationWork& work, record::Observer& observer)
      : work_(work),
        settings_(work.settings),
        observer_(observer),
        texts_(settings_.named_texts()),
        caches_(kv_caches_of(settings_, *work.original.config)) {}

  std::vector<record::EvaluationReport> run() {
    for (const job::EvaluationText& text : texts_) evaluate(text, settings_.seqlen);
    if (caches_.empty()) return std::move(reports_);
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      job::EvaluationText text = texts_[i];
      for (const Index seqlen : cache_seqlens_of(texts_[i], reports_[i].manifest)) {
        if (seqlen == settings_.seqlen) continue;
        text.windows = windows_for(texts_[i], reports_[i], seqlen);
        evaluate(text, seqlen);
      }
    }
    return std::move(reports_);
  }

 private:
  // The longest length is limited by text and model.
  std::vector<Index> cache_seqlens_of(const job::EvaluationText& text,
                                      const text::Manifest& manifest) const {
    const Index tokens = tokens_in_a_row(text, manifest.sources.front());
    const Index positions = work_.original.config->max_positions;
    return cache_seqlens(settings_, positions > 0 ? std::min(positions, tokens) : tokens);
  }

  record::WindowStart window_start(const job::EvaluationText& text,
                                   const text::TokenIds& prefix) const {
    record::WindowStart start{.as_given = !text.tokens.empty() && prefix.empty(), .ids = prefix};
    for (const std::int32_t id : prefix)
      start.text +=
          text.tokens.empty() ? work_.tokens.tokenizer().token(id) : fmt::format("token {}", id);
    return start;
  }

  std::string title(const job::EvaluationText& text, Index seqlen) const {
    std::string title = "evaluate";
    if (texts_.size() > 1) title += " " + text.name;
    if (seqlen != settings_.seqlen) title += fmt::format(" ({} tokens)", seqlen);
    return title;
  }

  void evaluate(const job::EvaluationText& text, Index seqlen) {
    if (reports_.size() < work_.finished.size())
      return reports_.push_back(work_.finished[reports_.size()]);
    text::PackedTokens packed =
        work_.tokens.evaluation(text, seqlen, settings_.add_bos, *work_.original.config);
    const std::vector<Index> with_caches = cache_seqlens_of(text, packed.manifest);
    const std::vector<eval::EvalModel> models =
        compared_models(work_, std::ranges::find(with_caches, seqlen) == with_caches.end()
                                   ? std::vector<eval::KvCacheSpec>()
                                   : caches_);
    observer_.phase_started(title(text, seqlen),
                            (blocks_of(work_) + 1) * static_cast<Index>(1 + models.size()));
    record::EvaluationReport report;
    report.text = text.name;
    report.seqlen = packed.blocks.seqlen();
    report.windows = packed.blocks.rows();
    const text::TokenIds prefix =
        work_.tokens.prefix(text, settings_.add_bos, *work_.original.config);
    report.begins_with = window_start(text, prefix);
    report.models = eval::evaluate(work_.original, models, packed.blocks,
                                   {.runner = work_.runner,
                                    .first_position = eval::first_scored(prefix.size()),
                                    .reference_states = work_.reference_states,
                                    .progress = [&](Index done, Index) { observer_.step(done); }});
    report.manifest = std::move(packed.manifest);
    if (work_.keep) work_.keep(report);
    reports_.push_back(std::move(report));
  }

  const EvaluationWork& work_;
  const job::EvaluationSettings& settings_;
  record::Observer& observer_;
  std::vector<job::EvaluationText> texts_;
  std::vector<eval::KvCacheSpec> caches_;
  std::vector<record::EvaluationReport> reports_;
};

}  // namespace

eval::EvalModel evaluated(std::string label, const formats::ArtifactReader& artifact) {
  eval::EvalModel model{std::move(label), &artifact, &artifact.config()};
  if (KvNumbersByLayer scales = artifact.kv_scales(); !scales.empty()) {
    model.own_kv_cache = eval::make_scaled_fp8_cache(std::move(scales));
    model.inputs_name = "KV cache FP8";
  }
  InputGrids inputs = artifact.inputs();
  if (inputs.empty()) return model;
  const std::string_view title = formats::activations_of(inputs.begin()->second).title;
  model.inputs_name = model.inputs_name.empty() ? std::string(title)
                                                : fmt::format("{}, {}", title, model.inputs_name);
  model.inputs = std::make_shared<const InputGrids>(std::move(inputs));
  return model;
}

std::vector<eval::EvalModel> compared_models(const EvaluationWork& work,
                                             const std::vector<eval::KvCacheSpec>& caches) {
  std::vector<eval::EvalModel> result;
  if (work.settings.noise_floor) {
    result.push_back(work.original);
    result.back().kind = record::ModelKind::kNoiseFloor;
    result.back().dtype = forward::ComputeDType::kBFloat16;
  }
  const auto add_artifacts = [&](const std::optional<eval::KvCacheSpec>& cache) {
    for (const eval::EvalModel& artifact : work.artifacts) {
      result.push_back(artifact);
      result.back().kv_cache = cache;
    }
  };
  add_artifacts({});
  for (const eval::KvCacheSpec& cache : caches) {
    result.push_back(work.original);
    result.back().kind = record::ModelKind::kOriginal;
    result.back().kv_cache = cache;
    add_artifacts(cache);
  }
  return result;
}

std::vector<record::EvaluationReport> evaluate_texts(const EvaluationWork& work,
                                                     record::Observer& observer) {
  return TextsEvaluation(work, observer).run();
}

}  // namespace calque::pipeline
