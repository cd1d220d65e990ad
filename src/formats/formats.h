#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "formats/module_rules.h"
#include "formats/refusals.h"
#include "calque/formats/plan.h"
#include "calque/formats/planned_files.h"
#include "calque/formats/writer.h"

namespace calque::formats {

struct PlanInputs {
  const model::FamilySpec& family;
  const model::ModelSource& source;
  const QuantizationRequest& quantization;
  const ExportRequest& request;
  const SettingsOfModule& modules;  // by the rules of `quantization`
};

// Decides one tensor after the other; what concerns them all was decided when it was made.
using TensorPlanner = std::function<TensorPlan(const model::TensorSpec&, bool in_block_linear)>;

// One export format. `check` collects every refusal; `planner` may rely on there being none, and on
// its inputs to outlive the result.
struct Format {
  FormatInfo info;
  void (*check)(const PlanInputs&, Refusals&);
  TensorPlanner (*planner)(const PlanInputs&);
  std::unique_ptr<ArtifactWriter> (*open)(const ExportPlan&, const WriterInputs&);
  std::vector<PlannedFile> (*files)(const ExportPlan&, const WriterInputs&);
  std::vector<std::string> (*remarks)(const PlanInputs&, const std::vector<TensorPlan>&);
};

const std::vector<Format>& format_table();
// Error(kConfig) with the nearest name if there is none.
const Format& format_named(const std::string& name);

// Bytes of a tensor that is copied as it stands in the source.
TensorPlan plan_copy(const PlanInputs& inputs, const model::TensorSpec& tensor);

// The entries of format_table().
void check_packed(const PlanInputs& inputs, Refusals& refusals);
TensorPlan plan_packed_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                              bool in_block_linear);
std::unique_ptr<ArtifactWriter> open_packed_writer(const ExportPlan& plan,
                                                   const WriterInputs& inputs);
std::vector<PlannedFile> packed_files(const ExportPlan& plan, const WriterInputs& inputs);
std::vector<std::string> packed_remarks(const PlanInputs& inputs,
                                        const std::vector<TensorPlan>& tensors);
void check_gguf(const PlanInputs& inputs, Refusals& refusals);
TensorPlanner gguf_planner(const PlanInputs& inputs);
std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs);
std::vector<PlannedFile> gguf_files(const ExportPlan& plan, const WriterInputs& inputs);
std::vector<std::string> gguf_remarks(const PlanInputs& inputs,
                                      const std::vector<TensorPlan>& tensors);

}  // namespace calque::formats
