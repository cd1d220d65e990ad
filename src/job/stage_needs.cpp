#include "job/stage_needs.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "calque/ggml/fields.h"
#include "job/pass_method.h"
#include "job/upstream_settings.h"

namespace calque::job {
namespace {

using Operations = std::set<Operation>;

void add(Operations& to, std::initializer_list<Operation> operations) { to.insert(operations); }

bool is_calibrated(const Job& job, const formats::TensorPlan& tensor) {
  return job.calibration.given() && tensor.in_block_linear;
}

Operation search_of(ScaleRule rule) {
  return rule == ScaleRule::kBlockSearch ? Operation::kBlockScaleSearch : Operation::kScaleSearch;
}

// llama.cpp's rounding is the host's; what gptq does with its scale codes is not.
void add_blocks(const Job& job, const formats::TensorPlan& tensor, Operations& to) {
  const bool calibrated = is_calibrated(job, tensor);
  if (calibrated) add(to, {Operation::kGramEnergy});
  const bool chosen =
      job.quantization.rounding() == "gptq" && find_ggml_structure(*tensor.grid->block) != nullptr;
  if (!chosen) return;
  if (calibrated) add(to, {Operation::kInverseCholesky, Operation::kGptqSweep});
  if (job.quantization.refine_passes > 0) add(to, {Operation::kRefineBlocks});
}

// GPTQ's fallback is RTN, so whatever that takes may be called.
void add_groups(const Job& job, const formats::TensorPlan& tensor, Operations& to) {
  const QuantizationSettings& settings = job.quantization;
  add(to, {Operation::kRoundToGrid});
  if (!is_calibrated(job, tensor)) return add(to, {Operation::kScaleSearch});
  add(to, {search_of(rounding_scale_rule(settings)), Operation::kGramEnergy});
  if (settings.rounding() != "gptq") return;
  add(to, {Operation::kInverseCholesky, Operation::kGptqSweep, Operation::kScaleSearch});
  if (settings.refine_passes > 0) add(to, {Operation::kRefineGrid});
}

Operations quantize_needs(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  Operations needs;
  for (const formats::ExportPlan& plan : plans)
    for (const formats::TensorPlan& tensor : plan.tensors)
      if (tensor.grid && tensor.grid->block)
        add_blocks(job, tensor, needs);
      else if (tensor.grid)
        add_groups(job, tensor, needs);
  return needs;
}

Operations transform_needs(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  Operations needs;
  for (const formats::ExportPlan& plan : plans) {
    if (!quantizes_a_linear(plan)) continue;
    if (method_of(job, plan) == "awq")
      add(needs, {Operation::kScaleSearch, Operation::kRoundToGrid, Operation::kGramEnergy});
    if (upstream_correction_for(job, plan) > 0) add(needs, {Operation::kInverseCholesky});
  }
  return needs;
}

bool packs_bits(const formats::ExportPlan& plan) {
  return plan.request.format == "gptq" || plan.request.format == "compressed-tensors";
}

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
