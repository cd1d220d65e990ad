#include <fmt/format.h>

#include "forecast/memory_moment.h"

// As memory_stages.cpp.

namespace calque::forecast {
namespace {

constexpr Bytes kInDouble = 256;  // kernels/cpu/inverse_cholesky.cpp
constexpr Bytes kPanelRows = 64;   // kernels/cpu/panel.h
const Bytes kStripWeights = bytes_of(quant::RoundingOptions{}.strip_weights);

// quant/gptq.cpp, quant/rtn.cpp: one matrix, after the Hessian and its factor are there.
Bytes rounding_bytes(const JobShapes& shapes, const formats::TensorPlan& planned, bool gptq) {
  const Bytes rows = bytes_of(planned.tensor.shape[0]), columns = bytes_of(planned.tensor.shape[1]);
  const Bytes weights = rows * columns;
  const bool block = planned.grid->block.has_value();
  const Bytes codes = block ? planned.bytes : weights;
  const Bytes groups =
      block ? 0 : 2 * 4 * rows * bytes_of(planned.grid->groups(planned.tensor.shape[1]));
  const Bytes strip = std::min(weights, kStripWeights);
  // In a strip: weights in order and codes twice, or dequantized values; panels of the refinement;
  // with desc_act the ordered weights stay; a K-quant has two sets of fields.
  const Bytes panels = shapes.threads * 3 * 4 * kPanelRows * columns;
  const Bytes fp32 = 4 * strip * (planned.grid->desc_act ? 2 : 1);
  const Bytes extra = !gptq ? 0 : block ? 3 * strip : 2 * strip;
  const Bytes whole = strip < weights || !gptq ? codes : 0;
  return fp32 + extra + panels + whole + groups;
}

// rounding_by_rows.cpp: rounds_by_rows.
bool goes_by_rows(const JobShapes& shapes, const formats::ExportPlan& plan) {
  return !shapes.runs &&
         std::all_of(plan.tensors.begin(), plan.tensors.end(),
                     [](const auto& tensor) { return !tensor.grid || tensor.grid->block; });
}

// gptq_site.cpp: factor_site; quant/upstream.cpp.
Moment factoring(const JobShapes& shapes, const model::SiteSpec& site, Moment moment) {
  const bool in_double = bytes_of(site.features()) <= kInDouble;
  moment.add("the factorisation, in double", in_double ? 2 * 2 * gram(site) : 0);
  if (!shapes.upstream || site.expert >= 0) return moment;
  moment.add("the shift of its inputs, which becomes the correction", gram(site));
  return moment.add("rows being multiplied", in_double ? 0 : 4 * kStripWeights);
}

// site_rounding.cpp: round_and_write.
Moment rounding(const JobShapes& shapes, const formats::TensorPlan& planned, bool gptq,
                Moment moment) {
  return moment.add(fmt::format("{} while it is rounded", planned.tensor.name),
                    rounding_bytes(shapes, planned, gptq));
}
Moment writing(const formats::TensorPlan& planned, Moment moment) {
  const Bytes codes = planned.grid->block ? planned.bytes : elements(planned.tensor);
  return moment.add(fmt::format("codes of {} on their way to the file", planned.tensor.name),
                    codes + 2 * planned.bytes);
}

void at_site(const JobShapes& shapes, const formats::ExportPlan& plan,
             const model::BlockSpec& block, const model::SiteSpec& site,
             std::optional<Moment>& worst) {
  const bool gptq = shapes.runs && shapes.job.quantization.rounding->feeds_back;
  Moment start = with_block(shapes, block, shapes.runs ? &site : &block.sites.front());
  if (shapes.runs) start.add(square("Hessian", block, site), gram(site));
  if (gptq) start.add(square("factor", block, site), gram(site));
  start.add("Gram matrices of the block's other sites", kept_grams(shapes, block, site));
  start.activations(activations_at(shapes, block, site));
  if (gptq) keep_larger(factoring(shapes, site, start), worst);
  for (const model::LinearSpec& linear : site.readers) {
    const formats::TensorPlan& planned = plan.at(linear.weight.name);
    if (!planned.grid) continue;
    keep_larger(rounding(shapes, planned, gptq, start), worst);
    keep_larger(writing(planned, start), worst);
  }
}

}  // namespace

// site_rounding.cpp: correct_site, round_site.
std::optional<StageMemory> quantize_memory(const JobShapes& shapes) {
  std::optional<Moment> worst;
  for (const formats::ExportPlan& plan : shapes.plans) {
    if (goes_by_rows(shapes, plan)) {
      keep_larger(program(false).add("strips of matrices", kStrips), worst);
      continue;
    }
    for (const model::BlockSpec& block : shapes.family.blocks)
      for (const model::SiteSpec& site : block.sites) at_site(shapes, plan, block, site, worst);
  }
  return as_stage(std::move(worst), "quantize");
}

}  // namespace calque::forecast
