#pragma once

#include "calque/formats/format.h"
#include "formats/messages.h"
#include "formats/module_rules.h"

namespace calque::formats {

// What an export is planned from.
struct PlanInputs {
  const model::FamilySpec& family;
  const model::ModelSource& source;
  const QuantizationRequest& quantization;
  const ExportRequest& request;
  const SettingsOfModule& modules;  // by the rules of `quantization`
};

// Bytes of a tensor that is copied as it stands in the source.
TensorPlan plan_copy(const PlanInputs& inputs, const model::TensorSpec& tensor);

}  // namespace calque::formats
