#include <fmt/format.h>

#include <algorithm>

#include "calque/formats/format.h"
#include "calque/core/error.h"
#include "calib/imatrix_entries.h"
#include "calib/importance.h"

namespace calque::calib {
namespace {

[[noreturn]] void refuse(const char* code, const std::string& message) {
  throw Error(ErrorKind::kConfig, code, message);
}

void check_given(const job::Job& job) {
  const std::filesystem::path& path = job.quantization.imatrix;
  if (job.quantization.needs_text())
    refuse("E114",
           fmt::format("quantization.imatrix says what each column counts, which method '{}' "
                       "measures itself. Set method: rtn, or remove imatrix and give calibration "
                       "text",
                       job.quantization.method()));
  for (const formats::ExportRequest& request : job.exports)
    if (!format_of(request).has_block_types)
      refuse("E114", fmt::format("quantization.imatrix is for GGUF's block types; export '{}' is "
                                 "{}. Put it into a job of its own",
                                 request.path.string(), request.format));
  if (job.calibration.given())
    refuse("E114",
           "quantization.imatrix and calibration text would both say what each column counts; keep "
           "one of them");
  if (!std::filesystem::exists(path))
    throw Error(ErrorKind::kInput, "E202",
                fmt::format("quantization.imatrix: '{}' does not exist (paths are relative to the "
                            "job file)",
                            path.string()));
}

void check_saved(const job::Job& job) {
  if (!job.calibration.given())
    refuse("E115",
           "calibration.save_imatrix saves what calibration text showed, and there is none: give "
           "calibration.sources or calibration.tokens");
}

}  // namespace

void check_saved_imatrix(const job::Job& job) {
  const std::filesystem::path& path = job.calibration.save_imatrix;
  if (path.empty()) return;
  const bool replace =
      std::all_of(job.exports.begin(), job.exports.end(),
                  [](const formats::ExportRequest& request) { return request.overwrite; });
  if (!replace && std::filesystem::exists(path))
    refuse("E209", fmt::format("calibration.save_imatrix: '{}' already exists; choose another path "
                               "(it is replaced where every export says overwrite: true)",
                               path.string()));
}

void check_imatrix_settings(const job::Job& job, const model::FamilySpec& family) {
  if (!job.quantization.imatrix.empty()) check_given(job);
  if (job.calibration.save_imatrix.empty()) return;
  check_saved(job);
  check_has_gguf_names(family);
}

}  // namespace calque::calib
