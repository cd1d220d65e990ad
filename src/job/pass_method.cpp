#include "job/pass_method.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/quant/rounder.h"


namespace calque::job {
namespace {

bool is_rounded_linear(const formats::TensorPlan& tensor) {
  return tensor.in_block_linear && tensor.grid;
}

bool is_block(const formats::TensorPlan& tensor) { return tensor.grid->block.has_value(); }

template <typename Is>
bool any_linear(const formats::ExportPlan& plan, const Is& is) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(),
                     [&](const auto& tensor) { return is_rounded_linear(tensor) && is(tensor); });
}

bool rounds_only_blocks(const formats::ExportPlan& plan) {
  return quantizes_a_linear(plan) &&
         !any_linear(plan, [](const auto& tensor) { return !is_block(tensor); });
}

}  // namespace

void QuantizationSettings::set_method(std::string_view name) {
  for (const quant::Method& candidate : quant::methods()) {
    if (candidate.name != name) continue;
    transform = candidate.transform;
    rounding = candidate.rounding;
    return;
  }
  throw Error(ErrorKind::kConfig, "E112", fmt::format("unknown quantization.method '{}'", name));
}

quant::RoundingOptions QuantizationSettings::rounding_options() const {
  quant::RoundingOptions result = options;
  result.scale_rule = scale_rule.value_or(transform->scale_rule);
  return result;
}

quant::RoundingOptions QuantizationSettings::plain_options() const {
  quant::RoundingOptions result = options;
  result.scale_rule = scale_rule.value_or(quant::kNoTransform.scale_rule);
  return result;
}

bool quantizes_a_linear(const formats::ExportPlan& plan) {
  return std::any_of(plan.tensors.begin(), plan.tensors.end(), is_rounded_linear);
}

bool rescales_channels(const Job& job, const formats::ExportPlan& plan) {
  return job.quantization.transform->rescales_channels() && quantizes_a_linear(plan) &&
         !rounds_only_blocks(plan);
}

std::string method_of(const Job& job, const formats::ExportPlan& plan) {
  if (!rounds_only_blocks(plan)) return job.quantization.method();
  const quant::Rounding& rounding = *job.quantization.rounding;
  const auto takes_feedback = [](const auto& t) { return quant::takes_feedback(*t.grid); };
  if (rounding.feeds_back && any_linear(plan, takes_feedback)) return std::string(rounding.name);
  const bool weighed = job.calibration.given() || !job.quantization.imatrix.empty();
  return std::string(weighed ? quant::kByImportance : quant::kRtn.name);
}

}  // namespace calque::job
