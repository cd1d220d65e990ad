#include "calque/job/passes.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/formats/format.h"
#include "calque/job/builtin_texts.h"
#include "calque/model/expert_tokens.h"
#include "calque/quant/rounder.h"
#include "calque/text/tokenizer.h"

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

bool same_grids(const formats::ExportPlan& a, const formats::ExportPlan& b) {
  return std::equal(a.tensors.begin(), a.tensors.end(), b.tensors.begin(), b.tensors.end(),
                    [](const formats::TensorPlan& x, const formats::TensorPlan& y) {
                      return x.tensor.name == y.tensor.name && x.grid == y.grid &&
                             x.column_order == y.column_order;
                    });
}

bool can_correct(const Job& job) {
  return job.quantization.rounding->feeds_back && job.quantization.propagate_error &&
         job.calibration.given();
}

bool stores_input_peaks(const formats::ExportPlan& plan) {
  return any_linear(
      plan, [](const auto& tensor) { return tensor.inputs && tensor.inputs->is_calibrated(); });
}

bool rounds_inputs(const formats::ExportPlan& plan) {
  return any_linear(plan, [](const auto& tensor) { return tensor.inputs.has_value(); });
}

bool has_fewer_bits(const formats::ExportPlan& plan, int bits) {
  return any_linear(plan, [bits](const auto& tensor) { return tensor.grid->bits < bits; });
}

}  // namespace

std::vector<std::string> CalibrationSettings::file_names() const {
  std::vector<std::string> names;
  for (const text::TextSource& source : sources) names.push_back(name_of_source(source));
  if (!tokens.empty()) names.push_back(tokens.filename().string());
  return names;
}

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
  result.refine_passes = refine_passes.value_or(preset->refine_passes);
  return result;
}

quant::RoundingOptions QuantizationSettings::plain_options() const {
  quant::RoundingOptions result = options;
  result.scale_rule = scale_rule.value_or(quant::kNoTransform.scale_rule);
  result.refine_passes = refine_passes.value_or(preset->refine_passes);
  return result;
}

model::FamilySpec measured_family(const Job& job, model::FamilySpec family) {
  if (job.calibration.experts == CalibrationSettings::Experts::kAll) model::show_all_tokens(family);
  return family;
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

std::vector<std::vector<std::size_t>> group_by_grids(
    const std::vector<formats::ExportPlan>& plans) {
  std::vector<std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto fits = [&](const std::vector<std::size_t>& group) {
      return same_grids(plans[group.front()], plans[i]);
    };
    const auto group = std::find_if(groups.begin(), groups.end(), fits);
    if (group == groups.end())
      groups.push_back({i});
    else
      group->push_back(i);
  }
  return groups;
}

bool needs_input_peaks(const Job& job, const formats::ExportPlan& plan) {
  return stores_input_peaks(plan) ||
         (job.quantization.transform->eases_rounded_inputs && rescales_channels(job, plan));
}

bool needs_kv_peaks(const Job& job) {
  return std::ranges::any_of(job.exports, &formats::ExportRequest::stores_kv_scales);
}

void check_schemes(const Job& job, const std::vector<formats::ExportPlan>& plans) {
  for (const formats::ExportPlan& plan : plans) {
    const std::string file = plan.request.path.filename().string();
    if (stores_input_peaks(plan) && !job.calibration.given())
      throw Error(ErrorKind::kConfig, "E134",
                  fmt::format("{}: scheme {} stores the size of each linear's inputs, which "
                              "calibration text shows. Give calibration.sources (calque's own "
                              "texts: sources: [builtin]), or use scheme: FP8_DYNAMIC",
                              file, plan.request.scheme));
    if (plan.request.stores_kv_scales() && !job.calibration.given())
      throw Error(ErrorKind::kConfig, "E134",
                  fmt::format("{}: kv_cache: {} stores the size of keys and values, which "
                              "calibration text shows. Give calibration.sources (calque's own "
                              "texts: sources: [builtin]), or leave kv_cache out",
                              file, plan.request.kv_cache));
    if (rescales_channels(job, plan) && any_linear(plan, [](const auto& tensor) {
          return tensor.grid->scale_rows != 1 || tensor.grid->shares_a_number();
        }))
      throw Error(ErrorKind::kConfig, "E134",
                  fmt::format("{}: transform {} divides single rows, whose scales are tied to "
                              "others' with scheme {}. Use method: gptq, or scheme: FP8_DYNAMIC",
                              file, job.quantization.transform->name, plan.request.scheme));
  }
}

void check_upstream_settings(const Job& job) {
  const QuantizationSettings& settings = job.quantization;
  if (settings.upstream_correction.value_or(0) == 0 || can_correct(job)) return;
  const std::string reason =
      !settings.rounding->feeds_back ? fmt::format("rounding is '{}'", settings.rounding->name)
      : !settings.propagate_error
          ? "propagate_error is false, so layers do not see each other's errors"
          : "there is no calibration text";
  throw Error(ErrorKind::kConfig, "E116",
              fmt::format("quantization.upstream_correction: {} changes weights before gptq rounds "
                          "them, but {}. Remove it, or use method: gptq with calibration text and "
                          "propagate_error: true",
                          *settings.upstream_correction, reason));
}

double upstream_correction_for(const Job& job, const formats::ExportPlan& plan) {
  if (!can_correct(job)) return 0;
  const bool corrects = has_fewer_bits(plan, job.quantization.preset->corrects_below_bits);
  return job.quantization.upstream_correction.value_or(corrects ? 1.0 : 0.0);
}

std::string missing_tokenizer(const Job& job, const formats::ExportRequest& request) {
  if (format_of(request).is_folder || text::has_tokenizer(job.model.path)) return "";
  return "the model has no tokenizer: the GGUF file will have none either";
}

namespace {

std::string unneeded_scales(const quant::Transform& transform, const formats::ExportPlan& plan) {
  if (!transform.eases_rounded_inputs || rounds_inputs(plan)) return "";
  return fmt::format(
      "{}: transform {} makes inputs easier to round, but nothing rounds them here; "
      "use it with a scheme that does (W8A8, FP8_DYNAMIC), or leave it out",
      plan.request.path.filename().string(), transform.name);
}

}  // namespace

std::string unused_scales(const Job& job, const formats::ExportPlan& plan) {
  const quant::Transform& transform = *job.quantization.transform;
  if (!transform.rescales_channels()) return "";
  if (rescales_channels(job, plan)) return unneeded_scales(transform, plan);
  return fmt::format("{}: type {} takes no channel scales; method {} only rounds it ({})",
                     plan.request.path.filename().string(), plan.request.type, transform.name,
                     method_of(job, plan));
}

}  // namespace calque::job
