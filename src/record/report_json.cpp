#include "calque/record/report_json.h"

#include <optional>
#include <utility>

namespace calque::record {
namespace {

using io::Json;

Json json_of(const PerplexityResult& p) {
  return {{"value", p.value}, {"uncertainty", p.uncertainty}, {"predictions", p.predictions}};
}

Json json_of(const Interval& interval) { return Json::array({interval.low, interval.high}); }

Json json_of(const DivergenceResult& d) {
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
           {{"log10_first", d.kl_histogram.log10_first},
            {"log10_step", d.kl_histogram.log10_step},
            {"counts", d.kl_histogram.counts}}}};
}

Json json_of(const Measurement& m) {
  Json json = {{"label", m.label},
               {"kind", name_of(m.kind)},
               {"inputs", m.inputs},
               {"kv_cache", m.kv_cache},
               {"kv_cache_bytes", m.kv_cache_bytes},
               {"perplexity_huggingface", json_of(m.perplexity_hf)},
               {"perplexity_llamacpp", json_of(m.perplexity_llamacpp)}};
  if (m.kind != ModelKind::kReference) json["divergence"] = json_of(m.divergence);
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
                       {"conversations_as_plain_text", s.plain_conversations},
                       {"tokens", s.tokens},
                       {"rows_available", s.rows_available},
                       {"rows_used", s.rows_used}});
  return {{"tokenizer", manifest.tokenizer},
          {"tokens_sha256", manifest.tokens_sha256},
          {"first_ids", manifest.first_ids},
          {"sources", sources}};
}

Json json_of(const WindowStart& start) {
  return {{"as_given", start.as_given}, {"ids", start.ids}, {"text", start.text}};
}

Json json_of(const std::vector<EvaluationReport>& evaluations) {
  Json json = Json::array();
  for (const EvaluationReport& text : evaluations) json.push_back(json_of(text));
  return json;
}

Json json_of(const std::vector<TaskReport>& tasks) {
  Json json = Json::array();
  for (const TaskReport& task : tasks) json.push_back(json_of(task));
  return json;
}

Json json_of(const TaskScore& score, const std::string* reference) {
  const Share share = share_right(score.right);
  Json json = {{"value", share.value}, {"standard_error", share.standard_error}};
  if (reference != nullptr) {
    const PairedDifference d = paired_difference(*reference, score.right);
    json["difference"] = d.value;
    json["difference_standard_error"] = d.standard_error;
    json["lost"] = d.lost;
    json["won"] = d.won;
    json["mcnemar_p"] = d.p_value;
  }
  json["right"] = score.right;
  return json;
}

Json json_of(const TaskMeasurement& m, const TaskMeasurement& reference) {
  Json metrics = Json::object();
  for (const TaskScore& score : m.scores)
    metrics[score.metric] =
        json_of(score, &m == &reference ? nullptr : reference.find(score.metric));
  return {{"label", m.label},
          {"kind", name_of(m.kind)},
          {"kv_cache", m.kv_cache},
          {"metrics", metrics}};
}

Json json_of(const ArtifactReport& artifact) {
  Json json = {{"name", artifact.name()}, {"format", artifact.format()}};
  if (!artifact.type().empty()) json["type"] = artifact.type();
  json["tensor_bytes"] = artifact.plan.tensor_bytes;
  json["file_bytes"] = artifact.file_bytes;
  json["bits_per_weight"] = artifact.bits_per_weight;
  json["quantized_modules"] = artifact.modules.size();
  return json;
}

Json json_of(const StageDevices& devices) {
  Json json = Json::object();
  for (const NamedStageDevice& stage : kStageDevices)
    json.append(std::string(stage.name), devices.*stage.device);
  return json;
}

Json json_of(const std::vector<StagePeak>& peaks) {
  Json json = Json::array();
  for (const StagePeak& peak : peaks)
    json.push_back({{"stage", peak.stage},
                    {"predicted_bytes", peak.predicted_bytes},
                    {"measured_bytes", peak.measured_bytes}});
  return json;
}

// Reads a field of an object that another version may have written: absent or null gives the
// default.
template <typename T>
T field(const Json& object, const char* name, T otherwise = {}) {
  const Json* found = object.find(name);
  return found == nullptr || found->is_null() ? otherwise : found->get<T>();
}

std::string text_in(const Json& object, const char* name) {
  return field(object, name, std::string());
}

std::uint64_t bytes_in(const Json& object, const char* name) {
  return field(object, name, std::uint64_t{0});
}

const Json& section(const Json& object, const char* name) {
  static const Json kEmpty = Json::object();
  const Json* found = object.find(name);
  return found == nullptr || found->is_null() ? kEmpty : *found;
}

const Json::Array& list(const Json& object, const char* name) {
  static const Json kEmpty = Json::array();
  const Json* found = object.find(name);
  return (found == nullptr || found->is_null() ? kEmpty : *found).elements();
}

PerplexityResult perplexity_from(const Json& json) {
  return {field(json, "value", 0.0), field(json, "uncertainty", 0.0),
          field(json, "predictions", std::int64_t{0})};
}

Interval interval_from(const Json& intervals, const char* name) {
  const Json* found = intervals.find(name);
  if (found == nullptr || found->is_null()) return {};
  return {found->at(0).number(), found->at(1).number()};
}

KlHistogram histogram_from(const Json& json) {
  return {.counts = field(json, "counts", std::vector<std::int64_t>()),
          .log10_first = field(json, "log10_first", KlHistogram::kLog10First),
          .log10_step = field(json, "log10_step", KlHistogram::kLog10Step)};
}

DivergenceResult divergence_from(const Json& json) {
  const auto number = [&](const char* name) { return field(json, name, 0.0); };
  const Json& intervals = section(json, "kl_intervals");
  return {.kl_mean = number("kl_mean"),
          .kl_mean_uncertainty = number("kl_mean_uncertainty"),
          .kl_median = number("kl_median"),
          .kl_p90 = number("kl_p90"),
          .kl_p99 = number("kl_p99"),
          .kl_p999 = number("kl_p999"),
          .kl_max = number("kl_max"),
          .median_interval = interval_from(intervals, "median"),
          .p90_interval = interval_from(intervals, "p90"),
          .p99_interval = interval_from(intervals, "p99"),
          .p999_interval = interval_from(intervals, "p999"),
          .top1_agreement = number("top1_agreement"),
          .top1_agreement_uncertainty = number("top1_agreement_uncertainty"),
          .rms_delta_p = number("rms_delta_p"),
          .kl_histogram = histogram_from(section(json, "kl_histogram"))};
}

ModelKind kind_named(const std::string& name) {
  for (const ModelKind kind : {ModelKind::kReference, ModelKind::kNoiseFloor, ModelKind::kOriginal})
    if (name == name_of(kind)) return kind;
  return ModelKind::kArtifact;
}

Measurement measurement_from(const Json& json) {
  return {.label = text_in(json, "label"),
          .kind = kind_named(text_in(json, "kind")),
          .inputs = text_in(json, "inputs"),
          .kv_cache = text_in(json, "kv_cache"),
          .kv_cache_bytes = bytes_in(json, "kv_cache_bytes"),
          .perplexity_hf = perplexity_from(section(json, "perplexity_huggingface")),
          .perplexity_llamacpp = perplexity_from(section(json, "perplexity_llamacpp")),
          .divergence = divergence_from(section(json, "divergence"))};
}

TaskMeasurement task_measurement_from(const Json& json) {
  TaskMeasurement m{.label = text_in(json, "label"),
                    .kind = kind_named(text_in(json, "kind")),
                    .kv_cache = text_in(json, "kv_cache"),
                    .scores = {}};
  for (const auto& [metric, value] : section(json, "metrics").members())
    m.scores.push_back({metric, text_in(value, "right")});
  return m;
}

std::optional<WindowStart> window_start_from(const Json& evaluation) {
  const Json* found = evaluation.find("windows_begin_with");
  if (found == nullptr || found->is_null()) return std::nullopt;
  return WindowStart{.as_given = field(*found, "as_given", false),
                     .ids = field(*found, "ids", std::vector<std::int32_t>()),
                     .text = text_in(*found, "text")};
}

ArtifactReport artifact_from(const Json& json) {
  ArtifactReport artifact;
  artifact.plan.request.path = text_in(json, "name");
  artifact.plan.request.format = text_in(json, "format");
  artifact.plan.request.type = text_in(json, "type");
  artifact.plan.tensor_bytes = bytes_in(json, "tensor_bytes");
  artifact.plan.bits_per_weight = artifact.bits_per_weight = field(json, "bits_per_weight", 0.0);
  artifact.file_bytes = bytes_in(json, "file_bytes");
  return artifact;
}

StageSeconds stages_from(const Json& json) {
  StageSeconds stages;
  for (const NamedStage& stage : kStages)
    stages.*stage.seconds = field(json, stage.name.data(), 0.0);
  return stages;
}

Predicted predicted_from(const Json& metrics) {
  const Json& json = section(metrics, "predicted");
  Predicted predicted{
      .seconds = field(json, "seconds", 0.0),
      .seconds_from = text_in(json, "seconds_from"),
      .stages = stages_from(section(json, "stage_seconds")),
      .peak_bytes = field(json, "peak_bytes", bytes_in(metrics, "predicted_peak_bytes")),
      .disk_bytes = bytes_in(json, "disk_bytes"),
      .file_bytes = {}};
  for (const Json& artifact : list(metrics, "artifacts"))
    predicted.file_bytes.push_back(bytes_in(artifact, "predicted_file_bytes"));
  return predicted;
}

void read_costs(const Json& metrics, Report& report) {
  report.seconds = field(metrics, "seconds", 0.0);
  report.stages = stages_from(section(metrics, "stage_seconds"));
  report.peak_bytes = bytes_in(metrics, "peak_bytes");
  report.predicted_peak_bytes = bytes_in(metrics, "predicted_peak_bytes");
  report.activation_file_bytes = bytes_in(metrics, "activation_file_bytes");
  for (const Json& peak : list(metrics, "stage_peaks"))
    report.stage_peaks.push_back({text_in(peak, "stage"), bytes_in(peak, "predicted_bytes"),
                                  bytes_in(peak, "measured_bytes")});
  report.predicted = predicted_from(metrics);
  const Json& devices = section(metrics, "stage_devices");
  for (const NamedStageDevice& stage : kStageDevices)
    report.stage_devices.*stage.device = text_in(devices, stage.name.data());
}

}  // namespace

Json json_of(const EvaluationReport& text) {
  Json models = Json::array();
  for (const Measurement& model : text.models) models.push_back(json_of(model));
  Json json = {{"text", text.text}, {"seqlen", text.seqlen}, {"windows", text.windows}};
  if (text.begins_with) json["windows_begin_with"] = json_of(*text.begins_with);
  json["manifest"] = json_of(text.manifest);
  json["models"] = models;
  return json;
}

EvaluationReport evaluation_from(const Json& json) {
  EvaluationReport result{.text = text_in(json, "text"),
                          .seqlen = field(json, "seqlen", Index{0}),
                          .windows = field(json, "windows", Index{0}),
                          .begins_with = window_start_from(json),
                          .manifest = manifest_from(section(json, "manifest")),
                          .models = {}};
  for (const Json& model : list(json, "models")) result.models.push_back(measurement_from(model));
  return result;
}

Json json_of(const TaskReport& task) {
  Json models = Json::array();
  for (const TaskMeasurement& model : task.models)
    models.push_back(json_of(model, task.reference()));
  return {{"task", task.task},
          {"kind", name_of(task.kind)},
          {"file", task.file},
          {"sha256", task.sha256},
          {"metric", task.metric},
          {"questions", task.questions},
          {"chance", task.chance},
          {"questions_cut", task.cut},
          {"tokenizer", task.tokenizer},
          {"tokens_sha256", task.tokens_sha256},
          {"models", models}};
}

TaskReport task_from(const Json& json) {
  TaskReport task{.task = text_in(json, "task"),
                  .file = text_in(json, "file"),
                  .sha256 = text_in(json, "sha256"),
                  .kind = text_in(json, "kind") == name_of(TaskKind::kGeneration)
                              ? TaskKind::kGeneration
                              : TaskKind::kMultipleChoice,
                  .metric = text_in(json, "metric"),
                  .questions = field(json, "questions", Index{0}),
                  .chance = field(json, "chance", 0.0),
                  .cut = field(json, "questions_cut", Index{0}),
                  .tokenizer = text_in(json, "tokenizer"),
                  .tokens_sha256 = text_in(json, "tokens_sha256"),
                  .models = {}};
  for (const Json& model : list(json, "models"))
    task.models.push_back(task_measurement_from(model));
  return task;
}

Json json_of(const StageSeconds& stages) {
  Json json = Json::object();
  for (const NamedStage& stage : kStages)
    json.append(std::string(stage.name), stages.*stage.seconds);
  return json;
}

Json json_of(const Predicted& predicted) {
  return {{"seconds", predicted.seconds},
          {"seconds_from", predicted.seconds_from},
          {"stage_seconds", json_of(predicted.stages)},
          {"peak_bytes", predicted.peak_bytes},
          {"disk_bytes", predicted.disk_bytes}};
}

std::string report_json(const Report& report) {
  Json artifacts = Json::array();
  for (std::size_t i = 0; i < report.artifacts.size(); ++i) {
    artifacts.push_back(json_of(report.artifacts[i]));
    if (i < report.predicted.file_bytes.size())
      artifacts.back()["predicted_file_bytes"] = report.predicted.file_bytes[i];
  }
  Json json = {{"job", report.job_name},
               {"calque_version", CALQUE_VERSION},
               {"source",
                {{"name", report.source_name},
                 {"tensor_bytes", report.source_bytes},
                 {"bits_per_weight", report.source_bits_per_weight}}},
               {"artifacts", artifacts},
               {"evaluations", json_of(report.evaluations)},
               {"tasks", json_of(report.tasks)},
               {"forward_dtype", report.forward_dtype},
               {"instruction_set", report.instruction_set},
               {"threads", report.threads},
               {"seconds", report.seconds},
               {"stage_devices", json_of(report.stage_devices)},
               {"stage_seconds", json_of(report.stages)},
               {"peak_bytes", report.peak_bytes},
               {"predicted_peak_bytes", report.predicted_peak_bytes},
               {"activation_file_bytes", report.activation_file_bytes},
               {"stage_peaks", json_of(report.stage_peaks)},
               {"predicted", json_of(report.predicted)},
               {"shared", report.shared},
               {"warnings", report.warnings},
               {"resumed", report.resumed}};
  if (!report.allocation.empty()) json["allocation"] = json_of(report.allocation);
  return json.dump(2) + "\n";
}

Report report_from(const Json& metrics) {
  Report report;
  report.job_name = text_in(metrics, "job");
  report.calque_version = text_in(metrics, "calque_version");
  const Json& source = section(metrics, "source");
  report.source_name = text_in(source, "name");
  report.source_bytes = bytes_in(source, "tensor_bytes");
  report.source_bits_per_weight = field(source, "bits_per_weight", 0.0);
  for (const Json& json : list(metrics, "artifacts"))
    report.artifacts.push_back(artifact_from(json));
  for (const Json& json : list(metrics, "evaluations"))
    if (!list(json, "models").empty()) report.evaluations.push_back(evaluation_from(json));
  for (const Json& json : list(metrics, "tasks"))
    if (!list(json, "models").empty()) report.tasks.push_back(task_from(json));
  report.forward_dtype = text_in(metrics, "forward_dtype");
  report.instruction_set = text_in(metrics, "instruction_set");
  report.threads = field(metrics, "threads", 0);
  read_costs(metrics, report);
  report.shared = field(metrics, "shared", std::vector<std::string>());
  report.warnings = field(metrics, "warnings", std::vector<std::string>());
  report.resumed = field(metrics, "resumed", 0);
  if (const Json* allocation = metrics.find("allocation"))
    report.allocation = allocation_from(*allocation);
  return report;
}

text::Manifest manifest_from(const Json& json) {
  text::Manifest manifest;
  manifest.tokenizer = text_in(json, "tokenizer");
  manifest.tokens_sha256 = text_in(json, "tokens_sha256");
  manifest.first_ids = field(json, "first_ids", std::vector<std::int32_t>());
  for (const Json& source : list(json, "sources")) {
    text::SourceReport& s = manifest.sources.emplace_back();
    s.path = text_in(source, "file");
    s.sha256 = text_in(source, "sha256");
    s.documents = field(source, "documents", s.documents);
    s.documents_skipped = field(source, "documents_skipped", s.documents_skipped);
    s.invalid_utf8 = field(source, "documents_with_invalid_utf8", s.invalid_utf8);
    s.plain_conversations = field(source, "conversations_as_plain_text", s.plain_conversations);
    s.tokens = field(source, "tokens", s.tokens);
    s.rows_available = field(source, "rows_available", s.rows_available);
    s.rows_used = field(source, "rows_used", s.rows_used);
  }
  return manifest;
}

std::string manifest_json(const text::Manifest& manifest) {
  return json_of(manifest).dump(2) + "\n";
}

std::string evaluations_json(const std::vector<EvaluationReport>& evaluations,
                             const std::vector<TaskReport>& tasks) {
  const Json json = tasks.empty()
                        ? json_of(evaluations)
                        : Json{{"evaluations", json_of(evaluations)}, {"tasks", json_of(tasks)}};
  return json.dump(2) + "\n";
}

}  // namespace calque::record
