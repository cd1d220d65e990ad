#include "calque/study/run_result.h"

#include <fmt/format.h>

#include <utility>

#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "study/claims.h"

namespace calque::study {

namespace {

using io::Json;

Json shared_json(const std::vector<resume::SharedWork::Taken>& shared) {
  Json json = Json::object();
  for (const auto& taken : shared) json[taken.what] = taken.seconds;
  return json;
}

Json json_of(const TextResult& t) {
  return {{"text", t.text},
          {"seqlen", t.seqlen},
          {"ppl", t.ppl},
          {"ppl_uncertainty", t.ppl_uncertainty},
          {"ppl_original", t.ppl_original},
          {"kl_mean", t.kl_mean},
          {"kl_mean_uncertainty", t.kl_mean_uncertainty},
          {"kl_median", t.kl_median},
          {"kl_p99", t.kl_p99},
          {"top1_agreement", t.top1_agreement}};
}

// The numbers of a task's result and their names in files.
constexpr std::pair<const char*, double TaskResult::*> kTaskNumbers[] = {
    {"value", &TaskResult::value},
    {"standard_error", &TaskResult::standard_error},
    {"original", &TaskResult::original},
    {"difference", &TaskResult::difference},
    {"difference_error", &TaskResult::difference_error},
    {"p_value", &TaskResult::p_value}};

Json json_of(const TaskResult& t) {
  Json json = {{"task", t.task}, {"metric", t.metric}};
  for (const auto& [name, number] : kTaskNumbers) json[name] = t.*number;
  return json;
}

Json json_of(const ArtifactResult& a) {
  Json tasks = Json::array();
  for (const TaskResult& task : a.tasks) tasks.push_back(json_of(task));
  Json texts = Json::array();
  for (const TextResult& text : a.texts) texts.push_back(json_of(text));
  return {{"name", a.name},
          {"format", a.format},
          {"type", a.type},
          {"file_bytes", a.file_bytes},
          {"tensor_bytes", a.tensor_bytes},
          {"bits_per_weight", a.bits_per_weight},
          {"texts", texts},
          {"tasks", tasks}};
}

Json json_of(const RunResult& r) {
  Json artifacts = Json::array();
  for (const ArtifactResult& artifact : r.artifacts) artifacts.push_back(json_of(artifact));
  return {{"point", r.point},
          {"replicate", r.replicate},
          {"hash", r.hash},
          {"status", r.done() ? "done" : "failed"},
          {"error", {{"code", r.failure.code}, {"message", r.failure.message}}},
          {"method", r.method},
          {"bits", r.bits},
          {"group_size", r.group_size},
          {"sym", r.sym},
          {"source_bytes", r.source_bytes},
          {"artifacts", artifacts},
          {"seconds", r.seconds},
          {"quantize_seconds", r.quantize_seconds},
          {"statistics_seconds", r.statistics_seconds},
          {"forward_seconds", r.forward_seconds},
          {"evaluate_seconds", r.evaluate_seconds},
          {"peak_bytes", r.peak_bytes},
          {"shared_seconds", shared_json(r.shared)},
          {"artifacts_kept", r.artifacts_kept}};
}

template <typename T>
void read(const Json& json, const char* name, T& value) {
  value = json.at(name).get<T>();
}

TextResult text_from(const Json& json) {
  TextResult t;
  read(json, "text", t.text);
  read(json, "seqlen", t.seqlen);
  read(json, "ppl", t.ppl);
  read(json, "ppl_uncertainty", t.ppl_uncertainty);
  read(json, "ppl_original", t.ppl_original);
  read(json, "kl_mean", t.kl_mean);
  read(json, "kl_mean_uncertainty", t.kl_mean_uncertainty);
  read(json, "kl_median", t.kl_median);
  read(json, "kl_p99", t.kl_p99);
  read(json, "top1_agreement", t.top1_agreement);
  return t;
}

TaskResult task_from(const Json& json) {
  TaskResult t;
  read(json, "task", t.task);
  read(json, "metric", t.metric);
  for (const auto& [name, number] : kTaskNumbers) read(json, name, t.*number);
  return t;
}

ArtifactResult artifact_from(const Json& json) {
  ArtifactResult a;
  read(json, "name", a.name);
  read(json, "format", a.format);
  read(json, "type", a.type);
  read(json, "file_bytes", a.file_bytes);
  read(json, "tensor_bytes", a.tensor_bytes);
  read(json, "bits_per_weight", a.bits_per_weight);
  for (const Json& text : json.at("texts").elements()) a.texts.push_back(text_from(text));
  if (const Json* tasks = json.find("tasks"))  // earlier versions wrote none
    for (const Json& task : tasks->elements()) a.tasks.push_back(task_from(task));
  return a;
}

RunResult result_from(const Json& json) {
  RunResult r;
  read(json, "point", r.point);
  read(json, "replicate", r.replicate);
  read(json, "hash", r.hash);
  read(json.at("error"), "code", r.failure.code);
  read(json.at("error"), "message", r.failure.message);
  read(json, "method", r.method);
  read(json, "bits", r.bits);
  read(json, "group_size", r.group_size);
  read(json, "sym", r.sym);
  read(json, "source_bytes", r.source_bytes);
  for (const Json& artifact : json.at("artifacts").elements())
    r.artifacts.push_back(artifact_from(artifact));
  read(json, "seconds", r.seconds);
  read(json, "quantize_seconds", r.quantize_seconds);
  read(json, "statistics_seconds", r.statistics_seconds);
  read(json, "forward_seconds", r.forward_seconds);
  read(json, "evaluate_seconds", r.evaluate_seconds);
  read(json, "peak_bytes", r.peak_bytes);
  for (const auto& [what, seconds] : json.at("shared_seconds").members())
    r.shared.push_back({what, seconds.number()});
  read(json, "artifacts_kept", r.artifacts_kept);
  return r;
}

TextResult text_result(const record::EvaluationReport& evaluation, const record::Measurement& m) {
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

TaskResult task_result(const record::TaskReport& task, const record::TaskMeasurement& m) {
  const std::string& right = *m.find(task.metric);
  const std::string& before = *task.reference().find(task.metric);
  const record::Share share = record::share_right(right);
  const record::PairedDifference difference = record::paired_difference(before, right);
  return {.task = task.task,
          .metric = task.metric,
          .value = share.value,
          .standard_error = share.standard_error,
          .original = record::share_right(before).value,
          .difference = difference.value,
          .difference_error = difference.standard_error,
          .p_value = difference.p_value};
}

ArtifactResult artifact_result(const record::Report& report, std::size_t index) {
  const record::ArtifactReport& artifact = report.artifacts[index];
  ArtifactResult a;
  a.name = artifact.name();
  a.format = artifact.format();
  a.type = artifact.type();
  a.file_bytes = artifact.file_bytes;
  a.tensor_bytes = artifact.plan.tensor_bytes;
  a.bits_per_weight = artifact.bits_per_weight;
  for (const record::EvaluationReport& evaluation : report.evaluations)
    if (const record::Measurement* metrics = evaluation.artifact(index))
      a.texts.push_back(text_result(evaluation, *metrics));
  for (const record::TaskReport& task : report.tasks)
    if (const record::TaskMeasurement* m = task.artifact(a.name))
      a.tasks.push_back(task_result(task, *m));
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
    return result_from(io::parse_json(io::read_file(path)));
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace calque::study
