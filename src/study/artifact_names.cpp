#include "study/artifact_names.h"

#include <fmt/format.h>

#include <set>

#include "calque/formats/format.h"
#include "calque/config/job_file.h"

namespace calque::study {
namespace {

namespace fs = std::filesystem;

std::string model_name(const fs::path& path) {
  const fs::path whole = fs::weakly_canonical(path);
  return fs::is_directory(whole) ? whole.filename().string() : whole.stem().string();
}

std::string artifact_name(const job::Job& job, const formats::ExportRequest& request) {
  const formats::QuantizationRequest& grid = job.quantization.grid;
  const std::string model = model_name(job.model.path);
  const formats::Format& format = format_of(request);
  if (format.has_block_types) return fmt::format("{}-{}", model, request.type);
  return fmt::format("{}-{}-Int{}-{}", model, format.short_label, grid.bits,
                     grid.group_size > 0 ? fmt::format("g{}", grid.group_size) : "channel");
}

}  // namespace

void name_artifacts(job::Job& job, const fs::path& folder) {
  std::set<std::string> names;
  for (formats::ExportRequest& request : job.exports) {
    const std::string name = artifact_name(job, request);
    std::string unique = name;
    for (int n = 2; !names.insert(unique).second; ++n) unique = fmt::format("{}-{}", name, n);
    request.path = folder / (format_of(request).is_folder ? unique : unique + ".gguf");
    request.overwrite = true;
  }
}

std::string calibration_identity(const job::Job& job) {
  job::Job only;
  only.model = job.model;
  only.calibration = job.calibration;
  only.calibration.save_imatrix.clear();
  only.runtime.forward_dtype = job.runtime.forward_dtype;
  return config::resolved_yaml(only);
}

}  // namespace calque::study
