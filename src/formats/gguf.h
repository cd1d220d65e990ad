#pragma once

#include <memory>
#include <vector>

#include "formats/plan_inputs.h"

namespace calque::formats {

// What gguf_writer.cpp gives GGUF's row (format.h says what they are).
std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs);
std::vector<PlannedFile> gguf_files(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
