#pragma once

#include "calque/formats/format.h"
#include "formats/messages.h"
#include "formats/module_rules.h"

namespace calque::formats {

// The inputs for planning an export.
struct PlanInputs {
  const model::FamilySpec& family;
  const model::ModelSource& source;
  const QuantizationRequest& quantization;
  const ExportRequest& request;
  const SettingsOfModule& modules;  // resolved from the rules of `quantization`
};

// Plans to copy a tensor exactly as in the source.
TensorPlan plan_copy(const PlanInputs& inputs, const model::TensorSpec& tensor);

}  // namespace calque::formats
