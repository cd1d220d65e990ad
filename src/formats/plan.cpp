#include "calque/formats/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "calque/core/error.h"
#include "calque/formats/scheme.h"
#include "formats/packed_format.h"
#include "formats/plan_inputs.h"
#include "formats/requirements.h"

namespace calque::formats {
namespace {

double element_count(const ExportPlan& plan) {
  double count = 0;
  for (const TensorPlan& tensor : plan.tensors) {
    if (tensor.holds_parts) continue;
    double elements = 1;
    for (const Index n : tensor.tensor.shape) elements *= static_cast<double>(n);
    count += elements;
  }
  return count;
}

// The weight of a linear, of which the tensor is the weight or the bias.
std::string weight_beside(const std::string& tensor_name) {
  return tensor_name.substr(0, tensor_name.rfind('.')) + ".weight";
}

// Experts that the file stores together, and that all stay as they are, are copied together, and so
// are their biases.
void keep_stacks(const PlanInputs& inputs, ExportPlan& plan) {
  plan.make_index();
  for (const model::StoredStack& stack : inputs.source.stacks()) {
    if (std::any_of(stack.parts.begin(), stack.parts.end(), [&](const std::string& part) {
          return plan.at(weight_beside(part)).grid.has_value();
        }))
      continue;
    for (const std::string& part : stack.parts) {
      TensorPlan& planned = plan.tensors[plan.index_of(part)];
      planned.kept_in = stack.stored.front().name;
      planned.bytes = 0;
    }
    for (const model::SourceTensor& stored : stack.stored) {
      plan.tensors.push_back(plan_copy(inputs, {.name = stored.name, .shape = stored.shape}));
      plan.tensors.back().holds_parts = true;
    }
  }
}

}  // namespace

void ExportPlan::make_index() {
  index_.clear();
  for (std::size_t i = 0; i < tensors.size(); ++i) index_.emplace(tensors[i].tensor.name, i);
}

std::size_t ExportPlan::index_of(const std::string& tensor_name) const {
  if (const auto entry = index_.find(tensor_name);
      entry != index_.end() && entry->second < tensors.size() &&
      tensors[entry->second].tensor.name == tensor_name)
    return entry->second;
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const TensorPlan& t) {
    return t.tensor.name == tensor_name;
  });
  if (found == tensors.end())
    throw Error(ErrorKind::kInternal, "",
                fmt::format("tensor '{}' is not in the plan of the {} export", tensor_name,
                            request.format));
  return static_cast<std::size_t>(found - tensors.begin());
}

const TensorPlan& ExportPlan::at(const std::string& tensor_name) const {
  return tensors[index_of(tensor_name)];
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
  const QuantizationRequest settings = with_scheme(quantization, request, refusals);
  const SettingsOfModule modules = resolve_rules(
      family, settings, format.packed != nullptr && format.packed->rounds_embedding, refusals);
  const PlanInputs inputs{family, source, settings, request, modules};
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
  }
  if (format.is_folder)
    for (const model::TensorSpec& tensor : family.carried)
      plan.tensors.push_back(plan_copy(inputs, tensor));
  if (format.is_folder && !quantization.rescales_channels) keep_stacks(inputs, plan);
  for (const TensorPlan& tensor : plan.tensors) plan.tensor_bytes += tensor.bytes;
  plan.make_index();
  check_requirements(family, request, plan.tensors, refusals);
  refusals.throw_if_any();
  plan.remarks = format.remarks(inputs, plan.tensors);
  plan.bits_per_weight = 8.0 * static_cast<double>(plan.tensor_bytes) / element_count(plan);
  return plan;
}

}  // namespace calque::formats
