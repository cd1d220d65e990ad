#include "job/stage_needs.h"

#include <algorithm>
#include <set>
#include <span>

#include "calque/formats/format.h"
#include "calque/job/passes.h"

namespace calque::job {
namespace {

using Operations = std::set<Operation>;

void add(Operations& to, std::span<const Operation> operations) {
  to.insert(operations.begin(), operations.end());
}

bool is_calibrated(const Job& job, const formats::TensorPlan& tensor) {
  return job.calibration.given() && tensor.in_block_linear;
}

Operations quantize_needs(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  const QuantizationSettings& settings = job.quantization;
  Operations needs;
  for (const formats::ExportPlan& plan : plans)
    for (const formats::TensorPlan& tensor : plan.tensors) {
      if (!tensor.grid) continue;
      const bool calibrated = is_calibrated(job, tensor);
      add(needs,
          settings.rounding->operations(settings.rounding_options(), {*tensor.grid, calibrated}));
    }
  return needs;
}

bool has_float_grid(const formats::ExportPlan& plan) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [](const auto& tensor) { return tensor.grid && tensor.grid->number; });
}

Operations transform_needs(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  Operations needs;
  for (const formats::ExportPlan& plan : plans) {
    if (!quantizes_a_linear(plan)) continue;
    if (rescales_channels(job, plan)) {
      add(needs, job.quantization.transform->operations);
      if (has_float_grid(plan)) needs.insert(Operation::kFloatScaleSearch);
    }
    if (upstream_correction_for(job, plan) > 0) needs.insert(Operation::kInverseCholesky);
  }
  return needs;
}

bool packs_bits(const formats::ExportPlan& plan) { return format_of(plan.request).packs_on_device; }

std::vector<Operation> listed(const Operations& operations) {
  return {operations.begin(), operations.end()};
}

}  // namespace

StageNeeds stage_needs(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  StageNeeds needs;
  const bool measures =
      job.calibration.given() && std::any_of(plans.begin(), plans.end(), quantizes_a_linear);
  needs.forward = measures || job.evaluate.has_value();
  if (measures) {
    needs.statistics = {Operation::kGram};
    needs.transform = listed(transform_needs(job, plans));
  }
  needs.quantize = listed(quantize_needs(job, plans));
  if (std::any_of(plans.begin(), plans.end(), packs_bits)) needs.pack = {Operation::kPackBits};
  return needs;
}

}  // namespace calque::job
