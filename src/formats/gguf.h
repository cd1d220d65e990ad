#pragma once

#include <memory>
#include <vector>

#include "formats/plan_inputs.h"

namespace calque::formats {

// Functions of gguf_writer.cpp for GGUF's row; see format.h.
std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs);
std::vector<PlannedFile> gguf_files(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
