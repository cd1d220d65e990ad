#include "pipeline/plan_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/model/weight_source.h"
#include "calque/pipeline/evaluate_texts.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/quant/methods.h"
#include "job/evaluation_settings.h"
#include "calib/importance.h"
#include "job/job_tokens.h"
#include "job/stage_devices.h"
#include "job/upstream_settings.h"

namespace calque::pipeline {
namespace {

void check_exists(const std::filesystem::path& path, const char* key) {
  if (std::filesystem::exists(path)) return;
  throw Error(ErrorKind::kInput, "E202",
              fmt::format("{}: '{}' does not exist (paths are relative to the job file)", key,
                          path.string()));
}

void check_method(const job::QuantizationSettings& settings, const job::CalibrationSettings& calibration) {
  if (settings.needs_text() && !calibration.given())
    throw Error(ErrorKind::kConfig, "E203",
                fmt::format("method '{}' needs calibration text: give calibration.sources or "
                            "calibration.tokens, or use method: rtn",
                            settings.method()));
}

void check_awq(const job::QuantizationSettings& settings) {
  if (settings.transform->rescales_channels() && settings.awq.loss == quant::AwqLoss::kOutput &&
      !settings.propagate_error)
    throw Error(ErrorKind::kConfig, "E113",
                "awq.loss: output runs parts of a block while its inputs are there, which "
                "propagate_error: false does not keep. Use awq.loss: gram, or propagate_error: "
                "true");
}

void check_calibration(const job::CalibrationSettings& calibration) {
  if (!calibration.sources.empty() && !calibration.tokens.empty())
    throw Error(ErrorKind::kConfig, "E205",
                "calibration has both sources and tokens; keep one of them");
  for (const text::TextSource& source : calibration.sources)
    check_exists(source.path, "calibration.sources");
  if (!calibration.tokens.empty()) check_exists(calibration.tokens, "calibration.tokens");
}

void check_window_fits(const job::Job& job, const model::ModelConfig& config) {
  const auto check = [&](Index seqlen, const char* key) {
    if (config.max_positions > 0 && seqlen > config.max_positions)
      throw Error(ErrorKind::kConfig, "E207",
                  fmt::format("{} is {}, but the model was made for at most {} positions "
                              "(max_position_embeddings). Set {}: {}",
                              key, seqlen, config.max_positions, key, config.max_positions));
  };
  if (job.calibration.given()) check(job.calibration.packing.seqlen, "calibration.seqlen");
  if (job.evaluate) check_evaluation_of(*job.evaluate, config);
}

void check_distinct_paths(const std::vector<formats::ExportRequest>& exports) {
  for (std::size_t i = 0; i < exports.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (std::filesystem::absolute(exports[i].path).lexically_normal() ==
          std::filesystem::absolute(exports[j].path).lexically_normal())
        throw Error(ErrorKind::kConfig, "E208",
                    fmt::format("export {} and export {} both write '{}'; give each its own path",
                                j + 1, i + 1, exports[i].path.string()));
}

void check_target(const formats::ExportRequest& request) {
  const std::vector<std::filesystem::path> there = formats::files_at(request);
  if (!there.empty() && !request.overwrite)
    throw Error(ErrorKind::kConfig, "E209",
                fmt::format("'{}' already exists; set overwrite: true in the export, or choose "
                            "another path",
                            there.front().string()));
}

void check_folder_export(const SourceModel& source, const formats::ExportRequest& request) {
  if (!source.is_gguf() || !format_of(request).is_folder) return;
  throw Error(
      ErrorKind::kConfig, "E126",
      fmt::format("format '{}' is a folder with config.json and tokenizer files, and the "
                  "model is a GGUF file, which has neither. Start from the model's original "
                  "folder, or export gguf",
                  request.format));
}

bool same_grids(const formats::ExportPlan& a, const formats::ExportPlan& b) {
  return std::equal(a.tensors.begin(), a.tensors.end(), b.tensors.begin(), b.tensors.end(),
                    [](const formats::TensorPlan& x, const formats::TensorPlan& y) {
                      return x.tensor.name == y.tensor.name && x.grid == y.grid;
                    });
}

}  // namespace

SourceModel::SourceModel(const std::filesystem::path& path, bool allow_requantize)
    : SourceModel(formats::open_model(path, allow_requantize)) {}

SourceModel::SourceModel(formats::OpenedModel opened)
    : weights(std::move(opened.weights)),
      family(model::family_of(opened.config)),
      metadata(std::move(opened.metadata)) {
  model::check_against_family(*weights, family);
}

double SourceModel::bits_per_weight() const {
  double elements = 0;
  for (const model::SourceTensor& tensor : weights->tensors())
    elements += static_cast<double>(tensor.element_count());
  return 8.0 * static_cast<double>(weights->total_bytes()) / elements;
}

std::vector<formats::ExportPlan> plan_exports(const job::Job& job, const SourceModel& source,
                                               Targets targets) {
  check_method(job.quantization, job.calibration);
  check_awq(job.quantization);
  check_upstream_settings(job);
  check_calibration(job.calibration);
  calib::check_imatrix_settings(job, source.family);
  if (targets == Targets::kOthers) calib::check_saved_imatrix(job);
  calib::load_importance(job, source.family);  // refuses a file of another model
  if (job.evaluate) check_evaluation(*job.evaluate);
  check_tokenizer(job);
  check_window_fits(job, source.family.config);
  check_distinct_paths(job.exports);

  formats::QuantizationRequest quantization = job.quantization.grid;
  quantization.calibrated = job.calibration.given() || !job.quantization.imatrix.empty();
  quantization.reference_rounding = !job.quantization.transform->rescales_channels() &&
                                    job.quantization.rounding->llama_cpp_types;
  std::vector<formats::ExportPlan> plans;
  for (const formats::ExportRequest& request : job.exports) {
    check_folder_export(source, request);
    if (targets == Targets::kOthers) check_target(request);
    plans.push_back(formats::plan_export(source.family, *source.weights, quantization, request));
  }
  choose_devices(job, plans, job::this_machine());  // refuses what no device here can do
  return plans;
}

std::vector<std::vector<std::size_t>> group_by_grids(
    const std::vector<formats::ExportPlan>& plans) {
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto fits = [&](const std::vector<std::size_t>& group) {
      return same_grids(plans[group.front()], plans[i]);
    };
    const auto group = std::find_if(groups.begin(), groups.end(), fits);
    if (group == groups.end())
      groups.push_back({i});
    else
      group->push_back(i);
  }
  return groups;
}

std::vector<formats::ExportPlan> plan_job(const job::Job& job) {
  return plan_exports(job, SourceModel(job.model.path, job.model.allow_requantize));
}

}  // namespace calque::pipeline
