#include "report/read_metrics.h"

#include <algorithm>

#include "report/json_fields.h"

namespace calque::report {
namespace {

Estimate estimate(const Json& json) {
  return {field(json, "value", 0.0), field(json, "uncertainty", 0.0)};
}

Percentile percentile(const Json& divergence, const char* name) {
  Percentile result{field(divergence, (std::string("kl_") + name).c_str(), 0.0), {}};
  const Json& intervals = section(divergence, "kl_intervals");
  if (const Json* found = intervals.find(name); found != nullptr && !found->is_null())
    result.interval = {found->at(0).number(), found->at(1).number()};
  return result;
}

Histogram histogram(const Json& json) {
  return {field(json, "log10_first", 0.0), field(json, "log10_step", 0.0),
          field(json, "counts", std::vector<std::uint64_t>{})};
}

Divergence divergence(const Json& json) {
  Divergence d;
  d.kl_mean = {field(json, "kl_mean", 0.0), field(json, "kl_mean_uncertainty", 0.0)};
  d.kl_median = percentile(json, "median");
  d.kl_p90 = percentile(json, "p90");
  d.kl_p99 = percentile(json, "p99");
  d.kl_p999 = percentile(json, "p999");
  d.kl_max = field(json, "kl_max", 0.0);
  d.top1_agreement = {field(json, "top1_agreement", 0.0),
                      field(json, "top1_agreement_uncertainty", 0.0)};
  d.rms_delta_p = field(json, "rms_delta_p", 0.0);
  d.histogram = histogram(section(json, "kl_histogram"));
  return d;
}

ModelKind kind_named(const std::string& name) {
  return name == "reference"     ? ModelKind::kReference
         : name == "noise_floor" ? ModelKind::kNoiseFloor
                                 : ModelKind::kArtifact;
}

ModelResult model_result(const Json& json) {
  ModelResult model;
  model.label = field(json, "label", std::string());
  model.kind = kind_named(field(json, "kind", std::string()));
  model.kv_cache = field(json, "kv_cache", std::string());
  model.kv_cache_bytes = field(json, "kv_cache_bytes", std::uint64_t{0});
  const Json& perplexity = section(json, "perplexity_huggingface");
  model.perplexity = estimate(perplexity);
  model.predictions = field(perplexity, "predictions", std::uint64_t{0});
  if (const Json& d = section(json, "divergence"); !d.empty()) model.divergence = divergence(d);
  return model;
}

Evaluation evaluation(const Json& json) {
  Evaluation result;
  result.text = field(json, "text", std::string());
  result.seqlen = field(json, "seqlen", std::int64_t{0});
  result.windows = field(json, "windows", std::int64_t{0});
  result.tokens = token_record(section(json, "manifest"));
  for (const Json& model : list(json, "models")) result.models.push_back(model_result(model));
  return result;
}

Artifact artifact(const Json& json) {
  return {field(json, "name", std::string()),
          field(json, "format", std::string()),
          field(json, "type", std::string()),
          field(json, "tensor_bytes", std::uint64_t{0}),
          field(json, "file_bytes", std::uint64_t{0}),
          field(json, "predicted_file_bytes", std::uint64_t{0}),
          field(json, "bits_per_weight", 0.0)};
}

// In the order they run, not of their names; those that another version knows last.
template <typename Named>
void sort_by_stage(std::vector<Named>& list, std::string Named::*name) {
  static const std::vector<std::string> kOrder = {"tokenize",   "load",      "forward",
                                                  "statistics", "transform", "quantize",
                                                  "pack",       "write",     "evaluate"};
  std::ranges::stable_sort(list, {}, [&](const Named& item) {
    return std::ranges::find(kOrder, item.*name) - kOrder.begin();
  });
}

void read_costs(const Json& metrics, Run& run) {
  const Json& predicted = section(metrics, "predicted");
  const Json& predicted_stages = section(predicted, "stage_seconds");
  for (const auto& [stage, seconds] : section(metrics, "stage_seconds").members())
    run.times.push_back(
        {stage, seconds.get<double>(), field(predicted_stages, stage.c_str(), 0.0)});
  sort_by_stage(run.times, &StageTime::stage);
  for (const Json& peak : list(metrics, "stage_peaks"))
    run.memory.push_back({field(peak, "stage", std::string()),
                          field(peak, "measured_bytes", std::uint64_t{0}),
                          field(peak, "predicted_bytes", std::uint64_t{0})});
  run.seconds = field(metrics, "seconds", 0.0);
  run.predicted_seconds = field(predicted, "seconds", 0.0);
  run.seconds_from = field(predicted, "seconds_from", std::string());
  run.peak_bytes = field(metrics, "peak_bytes", std::uint64_t{0});
  run.predicted_peak_bytes =
      field(predicted, "peak_bytes", field(metrics, "predicted_peak_bytes", std::uint64_t{0}));
  run.predicted_disk_bytes = field(predicted, "disk_bytes", std::uint64_t{0});
}

}  // namespace

TokenRecord token_record(const Json& manifest) {
  TokenRecord record{field(manifest, "tokenizer", std::string()),
                     field(manifest, "tokens_sha256", std::string()),
                     {}};
  for (const Json& source : list(manifest, "sources"))
    record.sources.push_back(
        {field(source, "file", std::string()), field(source, "sha256", std::string()),
         field(source, "tokens", std::uint64_t{0}), field(source, "rows_used", std::uint64_t{0})});
  return record;
}

void read_metrics(const Json& metrics, Run& run) {
  run.name = field(metrics, "job", run.name);
  run.calque_version = field(metrics, "calque_version", std::string());
  run.threads = field(metrics, "threads", 0);
  run.resumed = field(metrics, "resumed", 0);
  run.shared = field(metrics, "shared", std::vector<std::string>{});
  const Json& source = section(metrics, "source");
  run.source_name = field(source, "name", std::string());
  run.source_bytes = field(source, "tensor_bytes", std::uint64_t{0});
  run.source_bits_per_weight = field(source, "bits_per_weight", 0.0);
  for (const Json& json : list(metrics, "artifacts")) run.artifacts.push_back(artifact(json));
  for (const Json& json : list(metrics, "evaluations"))
    if (!section(json, "models").empty()) run.evaluations.push_back(evaluation(json));
  read_costs(metrics, run);
  run.forward_dtype = field(metrics, "forward_dtype", std::string());
  for (const auto& [stage, device] : section(metrics, "stage_devices").members())
    run.stage_devices.emplace_back(stage, device.get<std::string>());
  sort_by_stage(run.stage_devices, &std::pair<std::string, std::string>::first);
  run.warnings = field(metrics, "warnings", std::vector<std::string>{});
}

}  // namespace calque::report
