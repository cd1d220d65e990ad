#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/plan_inputs.h"

namespace calque::formats {

// The parts of GGUF's row (format.h says what they are).
void check_gguf(const PlanInputs& inputs, Refusals& refusals);
TensorPlanner gguf_planner(const PlanInputs& inputs);
std::vector<std::string> gguf_remarks(const PlanInputs& inputs,
                                      const std::vector<TensorPlan>& tensors);
std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs);
std::vector<PlannedFile> gguf_files(const ExportPlan& plan, const WriterInputs& inputs);

}  // namespace calque::formats
