#include "calque/record/report_json.h"

#include <nlohmann/json.hpp>

#include "forecast/predicted_json.h"
#include "calque/formats/format.h"

namespace calque::record {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const eval::PerplexityResult& p) {
  return {{"value", p.value}, {"uncertainty", p.uncertainty}, {"predictions", p.predictions}};
}

Json json_of(const eval::Interval& interval) { return Json::array({interval.low, interval.high}); }

Json json_of(const eval::DivergenceResult& d) {
  return {{"kl_mean", d.kl_mean},
          {"kl_mean_uncertainty", d.kl_mean_uncertainty},
          {"kl_median", d.kl_median},
          {"kl_p90", d.kl_p90},
          {"kl_p99", d.kl_p99},
          {"kl_p999", d.kl_p999},
          {"kl_max", d.kl_max},
          {"top1_agreement", d.top1_agreement},
          {"top1_agreement_uncertainty", d.top1_agreement_uncertainty},
          {"rms_delta_p", d.rms_delta_p},
          {"kl_intervals",
           {{"median", json_of(d.median_interval)},
            {"p90", json_of(d.p90_interval)},
            {"p99", json_of(d.p99_interval)},
            {"p999", json_of(d.p999_interval)}}},
          {"kl_histogram",
           {{"log10_first", eval::KlHistogram::kLog10First},
            {"log10_step", eval::KlHistogram::kLog10Step},
            {"counts", d.kl_histogram.counts}}}};
}

Json json_of(const eval::ModelMetrics& m) {
  Json json = {{"label", m.label},
               {"kind", eval::name_of(m.kind)},
               {"kv_cache", m.kv_cache},
               {"kv_cache_bytes", m.kv_cache_bytes},
               {"perplexity_huggingface", json_of(m.perplexity_hf)},
               {"perplexity_llamacpp", json_of(m.perplexity_llamacpp)}};
  if (m.kind != eval::ModelKind::kReference) json["divergence"] = json_of(m.divergence);
  return json;
}

Json json_of(const text::Manifest& manifest) {
  Json sources = Json::array();
  for (const text::SourceReport& s : manifest.sources)
    sources.push_back({{"file", s.path},
                       {"sha256", s.sha256},
                       {"documents", s.documents},
                       {"documents_skipped", s.documents_skipped},
                       {"documents_with_invalid_utf8", s.invalid_utf8},
                       {"tokens", s.tokens},
                       {"rows_available", s.rows_available},
                       {"rows_used", s.rows_used}});
  return {{"tokenizer", manifest.tokenizer},
          {"tokens_sha256", manifest.tokens_sha256},
          {"first_ids", manifest.first_ids},
          {"sources", sources}};
}

Json json_of(const std::vector<EvaluationReport>& evaluations) {
  Json json = Json::array();
  for (const EvaluationReport& e : evaluations) {
    Json models = Json::array();
    for (const eval::ModelMetrics& model : e.models) models.push_back(json_of(model));
    json.push_back({{"text", e.text},
                    {"seqlen", e.seqlen},
                    {"windows", e.windows},
                    {"manifest", json_of(e.manifest)},
                    {"models", models}});
  }
  return json;
}

Json json_of(const ArtifactReport& artifact) {
  const formats::ExportRequest& request = artifact.plan.request;
  Json json = {{"name", request.path.filename().string()}, {"format", request.format}};
  if (format_of(request).has_block_types) json["type"] = request.type;
  json["tensor_bytes"] = artifact.plan.tensor_bytes;
  json["file_bytes"] = artifact.file_bytes;
  json["bits_per_weight"] = artifact.bits_per_weight;
  json["quantized_modules"] = artifact.modules.size();
  return json;
}

Json json_of(const StageSeconds& s) {
  return {{"tokenize", s.tokenize},     {"load", s.load},           {"forward", s.forward},
          {"statistics", s.statistics}, {"transform", s.transform}, {"quantize", s.quantize},
          {"write", s.write},           {"evaluate", s.evaluate}};
}

Json json_of(const job::StageDevices& d) {
  return {{"forward", d.forward},
          {"statistics", d.statistics},
          {"transform", d.transform},
          {"quantize", d.quantize},
          {"pack", d.pack}};
}

Json json_of(const std::vector<StagePeak>& peaks) {
  Json json = Json::array();
  for (const StagePeak& peak : peaks)
    json.push_back({{"stage", peak.stage},
                    {"predicted_bytes", peak.predicted_bytes},
                    {"measured_bytes", peak.measured_bytes}});
  return json;
}

}  // namespace

std::string report_json(const Report& report) {
  Json artifacts = Json::array();
  for (std::size_t i = 0; i < report.artifacts.size(); ++i) {
    artifacts.push_back(json_of(report.artifacts[i]));
    if (i < report.predicted.file_bytes.size())
      artifacts.back()["predicted_file_bytes"] = report.predicted.file_bytes[i];
  }
  const Json json = {{"job", report.job_name},
                     {"calque_version", CALQUE_VERSION},
                     {"source",
                      {{"name", report.source_name},
                       {"tensor_bytes", report.source_bytes},
                       {"bits_per_weight", report.source_bits_per_weight}}},
                     {"artifacts", artifacts},
                     {"evaluations", json_of(report.evaluations)},
                     {"forward_dtype", report.forward_dtype},
                     {"threads", report.threads},
                     {"seconds", report.seconds},
                     {"stage_devices", json_of(report.stage_devices)},
                     {"stage_seconds", json_of(report.stages)},
                     {"peak_bytes", report.peak_bytes},
                     {"predicted_peak_bytes", report.predicted_peak_bytes},
                     {"activation_file_bytes", report.activation_file_bytes},
                     {"stage_peaks", json_of(report.stage_peaks)},
                     {"predicted", Json::parse(forecast::predicted_json(report.predicted))},
                     {"shared", report.shared},
                     {"warnings", report.warnings},
                     {"resumed", report.resumed}};
  return json.dump(2) + "\n";
}

std::string manifest_json(const text::Manifest& manifest) {
  return json_of(manifest).dump(2) + "\n";
}

std::string evaluations_json(const std::vector<EvaluationReport>& evaluations) {
  return json_of(evaluations).dump(2) + "\n";
}

const eval::ModelMetrics* EvaluationReport::artifact(std::size_t index) const {
  for (const eval::ModelMetrics& model : models) {
    if (model.kind != eval::ModelKind::kArtifact || !model.kv_cache.empty()) continue;
    if (index-- == 0) return &model;
  }
  return nullptr;
}

}  // namespace calque::record
