#include "job/pass_method.h"

#include <algorithm>

#include "calque/ggml/fields.h"

namespace calque::job {
namespace {

bool is_rounded_linear(const formats::TensorPlan& tensor) {
  return tensor.in_block_linear && tensor.grid;
}

bool is_block(const formats::TensorPlan& tensor) { return tensor.grid->block.has_value(); }

bool takes_feedback(const formats::TensorPlan& tensor) {
  return find_ggml_structure(*tensor.grid->block) != nullptr;
}

}  // namespace

ScaleRule rounding_scale_rule(const QuantizationSettings& settings) {
  return settings.method == "awq" && settings.awq.clip ? ScaleRule::kBlockSearch
                                                       : settings.scale_rule;
}

bool quantizes_a_linear(const formats::ExportPlan& plan) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(), is_rounded_linear);
}

std::string method_of(const Job& job, const formats::ExportPlan& plan) {
  const auto any_linear = [&](auto is) {
    return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                       [&](const auto& tensor) { return is_rounded_linear(tensor) && is(tensor); });
  };
  const bool only_blocks =
      quantizes_a_linear(plan) && !any_linear([](const auto& t) { return !is_block(t); });
  if (!only_blocks) return job.quantization.method;
  if (job.quantization.rounding() == "gptq" && any_linear(takes_feedback)) return "gptq";
  return job.calibration.given() || !job.quantization.imatrix.empty() ? "imatrix" : "rtn";
}

}  // namespace calque::job
