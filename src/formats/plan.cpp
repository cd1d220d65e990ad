#include "calque/formats/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "formats/plan_inputs.h"
#include "formats/requirements.h"

namespace calque::formats {
namespace {

double element_count(const ExportPlan& plan) {
  double count = 0;
  for (const TensorPlan& tensor : plan.tensors) {
    double elements = 1;
    for (const Index n : tensor.tensor.shape) elements *= static_cast<double>(n);
    count += elements;
  }
  return count;
}

}  // namespace

const TensorPlan& ExportPlan::at(const std::string& tensor_name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const TensorPlan& t) {
    return t.tensor.name == tensor_name;
  });
  if (found == tensors.end())
    throw Error(ErrorKind::kInternal, "",
                fmt::format("tensor '{}' is not in the plan of the {} export", tensor_name,
                            request.format));
  return *found;
}

TensorPlan plan_copy(const PlanInputs& inputs, const model::TensorSpec& tensor) {
  const model::SourceTensor& source = inputs.source.at(tensor.name);
  TensorPlan plan;
  plan.tensor = tensor;
  plan.stored_as = name_of(source.dtype);
  plan.bytes = source.byte_count();
  return plan;
}

ExportPlan plan_export(const model::FamilySpec& family, const model::ModelSource& source,
                       const QuantizationRequest& quantization, const ExportRequest& request) {
  const Format& format = format_of(request);
  Refusals refusals;
  const SettingsOfModule modules = resolve_rules(family, quantization, refusals);
  const PlanInputs inputs{family, source, quantization, request, modules};
  format.check(inputs, refusals);
  refusals.throw_if_any();

  std::set<std::string> linear_weights;
  for (const model::LinearSpec& linear : family.linears())
    linear_weights.insert(linear.weight.name);

  ExportPlan plan;
  plan.request = request;
  const TensorPlanner plan_tensor = format.planner(inputs);
  for (const model::TensorSpec& tensor : family.tensors()) {
    const bool in_block_linear = linear_weights.count(tensor.name) > 0;
    plan.tensors.push_back(plan_tensor(tensor, in_block_linear));
    plan.tensors.back().in_block_linear = in_block_linear;
    plan.tensor_bytes += plan.tensors.back().bytes;
  }
  if (format.is_folder)
    for (const model::TensorSpec& tensor : family.carried) {
      plan.tensors.push_back(plan_copy(inputs, tensor));
      plan.tensor_bytes += plan.tensors.back().bytes;
    }
  check_requirements(family, request, plan.tensors, refusals);
  refusals.throw_if_any();
  plan.remarks = format.remarks(inputs, plan.tensors);
  plan.bits_per_weight = 8.0 * static_cast<double>(plan.tensor_bytes) / element_count(plan);
  return plan;
}

}  // namespace calque::formats
