#pragma once

#include <memory>
#include <string>
#include <vector>

#include "artifact/module_rules.h"
#include "artifact/refusals.h"
#include "calque/artifact/plan.h"
#include "calque/artifact/writer.h"

namespace calque::artifact {

struct PlanInputs {
  const model::FamilySpec& family;
  const io::SafetensorsCheckpoint& checkpoint;
  const QuantizationRequest& quantization;
  const ExportRequest& request;
  const SettingsOfModule& modules;  // by the rules of `quantization`
};

// One export format. `check` collects every refusal; `plan_tensor` may rely on there being none.
struct Format {
  FormatInfo info;
  void (*check)(const PlanInputs&, Refusals&);
  TensorPlan (*plan_tensor)(const PlanInputs&, const model::TensorSpec&, bool in_block_linear);
  std::unique_ptr<ArtifactWriter> (*open)(const ExportPlan&, const WriterInputs&);
};

const std::vector<Format>& format_table();
// Error(kConfig) with the nearest name if there is none.
const Format& format_named(const std::string& name);

// Bytes of a tensor that is copied as it stands in the checkpoint.
TensorPlan plan_copy(const PlanInputs& inputs, const model::TensorSpec& tensor);

// The entries of format_table().
void check_packed(const PlanInputs& inputs, Refusals& refusals);
TensorPlan plan_packed_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                              bool in_block_linear);
std::unique_ptr<ArtifactWriter> open_packed_writer(const ExportPlan& plan,
                                                   const WriterInputs& inputs);
void check_gguf(const PlanInputs& inputs, Refusals& refusals);
TensorPlan plan_gguf_tensor(const PlanInputs& inputs, const model::TensorSpec& tensor,
                            bool in_block_linear);
std::unique_ptr<ArtifactWriter> open_gguf_writer(const ExportPlan& plan,
                                                 const WriterInputs& inputs);

}  // namespace calque::artifact
