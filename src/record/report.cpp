#include "calque/record/report.h"

#include <cmath>

#include "calque/formats/format.h"

namespace calque::record {

std::string_view name_of(ModelKind kind) {
  switch (kind) {
    case ModelKind::kReference:
      return "reference";
    case ModelKind::kNoiseFloor:
      return "noise_floor";
    case ModelKind::kOriginal:
      return "original";
    default:
      return "artifact";
  }
}

double KlHistogram::edge(std::size_t bin) const {
  return std::pow(10.0, log10_first + log10_step * static_cast<double>(bin));
}

std::string ArtifactReport::type() const {
  const formats::Format* format = formats::find_format(plan.request.format);
  return format != nullptr && format->has_block_types ? plan.request.type : "";
}

const Measurement* EvaluationReport::find(ModelKind kind) const {
  for (const Measurement& model : models)
    if (model.kind == kind && model.kv_cache.empty()) return &model;
  return nullptr;
}

const Measurement* EvaluationReport::artifact(std::size_t index) const {
  for (const Measurement& model : models) {
    if (model.kind != ModelKind::kArtifact || !model.kv_cache.empty()) continue;
    if (index-- == 0) return &model;
  }
  return nullptr;
}

const Measurement* EvaluationReport::artifact(const std::string& label) const {
  for (const Measurement& model : models)
    if (model.kind == ModelKind::kArtifact && model.kv_cache.empty() && model.label == label)
      return &model;
  return nullptr;
}

std::string predictions_text(const EvaluationReport& evaluation, const std::string& shown) {
  const std::optional<WindowStart>& start = evaluation.begins_with;
  if (start && !start->ids.empty())
    return "every token of every window, which begins with " + shown + " (not scored)";
  const std::string text = "every token of a window except the first";
  if (!start) return text;
  return text +
         (start->as_given ? "; windows begin as the token ids were given" : "; no BOS is added");
}

}  // namespace calque::record
