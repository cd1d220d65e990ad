#include "calque/study/run_result.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "calque/formats/format.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "study/host.h"

namespace calque::study {

using Json = nlohmann::json;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TextResult, text, seqlen, ppl, ppl_uncertainty, ppl_original,
                                   kl_mean, kl_mean_uncertainty, kl_median, kl_p99, top1_agreement)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ArtifactResult, name, format, type, file_bytes, tensor_bytes,
                                   bits_per_weight, texts)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Failure, code, message)

namespace {

Json shared_json(const std::vector<resume::SharedWork::Taken>& shared) {
  Json json = Json::object();
  for (const auto& taken : shared) json[taken.what] = taken.seconds;
  return json;
}

Json json_of(const RunResult& r) {
  return {{"point", r.point},
          {"replicate", r.replicate},
          {"hash", r.hash},
          {"status", r.done() ? "done" : "failed"},
          {"error", Json(r.failure)},
          {"method", r.method},
          {"bits", r.bits},
          {"group_size", r.group_size},
          {"sym", r.sym},
          {"source_bytes", r.source_bytes},
          {"artifacts", Json(r.artifacts)},
          {"seconds", r.seconds},
          {"quantize_seconds", r.quantize_seconds},
          {"statistics_seconds", r.statistics_seconds},
          {"forward_seconds", r.forward_seconds},
          {"evaluate_seconds", r.evaluate_seconds},
          {"peak_bytes", r.peak_bytes},
          {"shared_seconds", shared_json(r.shared)},
          {"artifacts_kept", r.artifacts_kept}};
}

RunResult result_from(const Json& json) {
  RunResult r;
  json.at("point").get_to(r.point);
  json.at("replicate").get_to(r.replicate);
  json.at("hash").get_to(r.hash);
  json.at("error").get_to(r.failure);
  json.at("method").get_to(r.method);
  json.at("bits").get_to(r.bits);
  json.at("group_size").get_to(r.group_size);
  json.at("sym").get_to(r.sym);
  json.at("source_bytes").get_to(r.source_bytes);
  json.at("artifacts").get_to(r.artifacts);
  json.at("seconds").get_to(r.seconds);
  json.at("quantize_seconds").get_to(r.quantize_seconds);
  json.at("statistics_seconds").get_to(r.statistics_seconds);
  json.at("forward_seconds").get_to(r.forward_seconds);
  json.at("evaluate_seconds").get_to(r.evaluate_seconds);
  json.at("peak_bytes").get_to(r.peak_bytes);
  for (const auto& [what, seconds] : json.at("shared_seconds").items())
    r.shared.push_back({what, seconds.get<double>()});
  json.at("artifacts_kept").get_to(r.artifacts_kept);
  return r;
}

TextResult text_result(const record::EvaluationReport& evaluation, const eval::ModelMetrics& m) {
  TextResult t;
  t.text = evaluation.text;
  t.seqlen = evaluation.seqlen;
  t.ppl = m.perplexity_hf.value;
  t.ppl_uncertainty = m.perplexity_hf.uncertainty;
  t.ppl_original = evaluation.reference().perplexity_hf.value;
  t.kl_mean = m.divergence.kl_mean;
  t.kl_mean_uncertainty = m.divergence.kl_mean_uncertainty;
  t.kl_median = m.divergence.kl_median;
  t.kl_p99 = m.divergence.kl_p99;
  t.top1_agreement = m.divergence.top1_agreement;
  return t;
}

ArtifactResult artifact_result(const record::Report& report, std::size_t index) {
  const record::ArtifactReport& artifact = report.artifacts[index];
  const formats::ExportRequest& request = artifact.plan.request;
  ArtifactResult a;
  a.name = request.path.filename().string();
  a.format = request.format;
  a.type = format_of(request).has_block_types ? request.type : "";
  a.file_bytes = artifact.file_bytes;
  a.tensor_bytes = artifact.plan.tensor_bytes;
  a.bits_per_weight = artifact.bits_per_weight;
  for (const record::EvaluationReport& evaluation : report.evaluations)
    if (const eval::ModelMetrics* metrics = evaluation.artifact(index))
      a.texts.push_back(text_result(evaluation, *metrics));
  return a;
}

}  // namespace

RunResult result_of(const Run& run, const record::Report* report) {
  const job::QuantizationSettings& settings = run.job.quantization;
  RunResult r;
  r.point = run.point;
  r.replicate = run.replicate;
  r.hash = run.hash;
  r.failure = run.refusal;
  r.method = settings.method();
  r.bits = settings.grid.bits;
  r.group_size = settings.grid.group_size;
  r.sym = settings.grid.sym;
  if (!report) return r;
  r.source_bytes = report->source_bytes;
  for (std::size_t i = 0; i < report->artifacts.size(); ++i)
    r.artifacts.push_back(artifact_result(*report, i));
  r.seconds = report->seconds;
  r.quantize_seconds = report->stages.quantize;
  r.statistics_seconds = report->stages.statistics;
  r.forward_seconds = report->stages.forward;
  r.evaluate_seconds = report->stages.evaluate;
  r.peak_bytes = report->peak_bytes;
  return r;
}

void write_result(const std::filesystem::path& folder, const RunResult& result) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw Error(ErrorKind::kResource, "E191",
                fmt::format("cannot write '{}': {}", folder.string(), error.message()));
  replace_file(folder / "point.json", json_of(result).dump(2) + "\n");
}

std::optional<RunResult> read_result(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "point.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    return result_from(Json::parse(io::read_file(path)));
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace calque::study
