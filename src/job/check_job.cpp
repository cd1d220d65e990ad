#include "calque/job/check_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "calque/calib/importance.h"
#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/io/hub_cache.h"
#include "calque/job/evaluation_settings.h"
#include "calque/job/passes.h"
#include "calque/quant/methods.h"
#include "job/refuse.h"

namespace calque::job {
namespace {

void check_method(const QuantizationSettings& settings, const CalibrationSettings& calibration) {
  if (settings.needs_text() && !calibration.given())
    refuse("E203",
           fmt::format("method '{}' needs calibration text: give calibration.sources (calque's "
                       "own texts: sources: [builtin]) or calibration.tokens, or use "
                       "method: rtn",
                       settings.method()));
}

void check_awq(const QuantizationSettings& settings) {
  if (settings.measures_outputs() && !settings.propagate_error)
    refuse("E113",
           "awq.loss: output runs parts of a block on its inputs, which are not kept with "
           "propagate_error: false. Use awq.loss: gram, or propagate_error: "
           "true");
}

void check_calibration(const CalibrationSettings& calibration) {
  if (!calibration.sources.empty() && !calibration.tokens.empty())
    refuse("E205", "calibration has both sources and tokens; keep one of them");
  for (const text::TextSource& source : calibration.sources)
    check_exists(source.path, "calibration.sources");
  if (!calibration.tokens.empty()) check_exists(calibration.tokens, "calibration.tokens");
}

void check_window_fits(const Job& job, const model::ModelConfig& config) {
  const auto check = [&](Index seqlen, const char* key) {
    if (config.max_positions > 0 && seqlen > config.max_positions)
      refuse("E207", fmt::format("{} is {}, but the model was made for at most {} positions "
                                 "(max_position_embeddings). Set {}: {}",
                                 key, seqlen, config.max_positions, key, config.max_positions));
  };
  if (job.calibration.given()) check(job.calibration.packing.seqlen, "calibration.seqlen");
  if (job.evaluate) check_evaluation_of(*job.evaluate, config);
}

void check_given_imatrix(const Job& job) {
  if (job.quantization.needs_text())
    refuse(
        "E114",
        fmt::format("quantization.imatrix states the importance of each column, which method '{}' "
                    "measures itself. Set method: rtn, or remove imatrix and give calibration "
                    "text",
                    job.quantization.method()));
  for (const formats::ExportRequest& request : job.exports)
    if (!format_of(request).has_block_types)
      refuse("E114", fmt::format("quantization.imatrix is for GGUF's block types; export '{}' is "
                                 "{}. Move it to a separate job",
                                 request.path.string(), request.format));
  if (job.calibration.given())
    refuse("E114",
           "quantization.imatrix and calibration text both determine the importance of columns; "
           "keep one of them");
  check_exists(job.quantization.imatrix, "quantization.imatrix");
}

void check_save_imatrix(const Job& job) {
  if (!job.calibration.given())
    refuse("E115",
           "calibration.save_imatrix saves statistics of calibration text, but there is none: give "
           "calibration.sources or calibration.tokens");
}

void check_imatrix(const Job& job, const model::FamilySpec& family) {
  if (!job.quantization.imatrix.empty()) check_given_imatrix(job);
  if (job.calibration.save_imatrix.empty()) return;
  check_save_imatrix(job);
  calib::check_has_gguf_names(family);
}

void check_saved_imatrix(const Job& job) {
  const std::filesystem::path& path = job.calibration.save_imatrix;
  if (path.empty()) return;
  const bool replace =
      std::all_of(job.exports.begin(), job.exports.end(),
                  [](const formats::ExportRequest& request) { return request.overwrite; });
  if (!replace && std::filesystem::exists(path))
    refuse("E209", fmt::format("calibration.save_imatrix: '{}' already exists; choose another path "
                               "(it is replaced if every export says overwrite: true)",
                               path.string()));
}

void check_target(const formats::ExportRequest& request) {
  const std::vector<std::filesystem::path> there = formats::files_at(request);
  if (!there.empty() && !request.overwrite)
    refuse("E209", fmt::format("'{}' already exists; set overwrite: true in the export, or choose "
                               "another path",
                               there.front().string()));
}

}  // namespace

void check_model(const ModelSettings& model) {
  if (!model.hub_name.empty() && !std::filesystem::exists(model.path))
    io::refuse_hub_name(model.hub_name, model.path);
  io::check_snapshot(model.path);
}

void check_distinct_paths(const std::vector<formats::ExportRequest>& exports) {
  for (std::size_t i = 0; i < exports.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (std::filesystem::absolute(exports[i].path).lexically_normal() ==
          std::filesystem::absolute(exports[j].path).lexically_normal())
        refuse("E208",
               fmt::format("export {} and export {} both write '{}'; give each its own path", j + 1,
                           i + 1, exports[i].path.string()));
}

void check_job(const Job& job, const formats::SourceModel& source) {
  check_method(job.quantization, job.calibration);
  check_awq(job.quantization);
  check_upstream_settings(job);
  check_calibration(job.calibration);
  check_imatrix(job, source.family);
  if (job.evaluate) check_evaluation(*job.evaluate);
  check_window_fits(job, source.family.config);
  check_distinct_paths(job.exports);
}

void check_targets(const Job& job) {
  check_saved_imatrix(job);
  for (const formats::ExportRequest& request : job.exports) check_target(request);
}

bool reads_text(const Job& job) {
  return !job.calibration.sources.empty() || (job.evaluate && reads_text(*job.evaluate));
}

}  // namespace calque::job
