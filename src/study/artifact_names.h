#pragma once

#include <filesystem>
#include <string>

#include "calque/job/job.h"

namespace calque::study {

// Gives every export of the job a name inside `folder` that says what it is ("demo-GPTQ-Int3-g64",
// "demo-Q4_K_M.gguf"), each once; replacing what is there.
void name_artifacts(job::Job& job, const std::filesystem::path& folder);

// Model, calibration text and forward dtype: runs with the same one have the same statistics, if
// they propagate no error.
std::string calibration_identity(const job::Job& job);

}  // namespace calque::study
