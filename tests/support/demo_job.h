#pragma once

#include <filesystem>
#include <string>

#include "calque/core/error.h"
#include "calque/pipeline/quantize_model.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {

// Jobs that take seconds, not minutes.

inline record::Report run(const job::Job& job) {
  record::Observer silent;
  return quantize_model(job, silent);
}

inline formats::ExportRequest folder_export(const std::string& format,
                                            const std::filesystem::path& path) {
  formats::ExportRequest request;
  request.format = format;
  request.path = path;
  return request;
}

inline formats::ExportRequest gguf_export(const std::filesystem::path& path,
                                          const std::string& type) {
  formats::ExportRequest request = folder_export("gguf", path);
  request.type = type;
  return request;
}

// The same, as <type>.gguf in `folder`.
inline formats::ExportRequest gguf_export(const calque::testing::TempFolder& folder,
                                          const std::string& type) {
  return gguf_export(folder / (type + ".gguf"), type);
}

// "CODE message" of the error that ends the job, or "no error".
inline std::string message_of(const job::Job& job) {
  try {
    run(job);
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "no error";
}

// The demo model with little text, and nothing to export yet.
inline job::Job demo_job() {
  job::Job job;
  job.name = "test";
  job.model.path = test::demo_model();
  text::TextSource prose;
  prose.path = std::filesystem::path(test::calibration_data()) / "prose.txt";
  job.calibration.sources = {prose};
  job.calibration.packing.n_samples = 48;
  job.calibration.packing.seqlen = 256;
  job.runtime.forward_dtype = "float32";
  return job;
}

inline job::EvaluationSettings small_evaluation() {
  job::EvaluationSettings settings;
  settings.texts.emplace_back().text =
      std::filesystem::path(test::calibration_data()) / "heldout_pride_and_prejudice.txt";
  settings.seqlen = 256;
  settings.windows = 8;
  return settings;
}

}  // namespace calque::pipeline
