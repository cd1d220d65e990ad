#include "forecast/memory_moment.h"

#include <fmt/format.h>

#include "calque/core/parallel.h"
#include "calque/forward/block_runner.h"
#include "calque/forward/cost.h"
#include "calque/job/passes.h"

namespace calque::forecast {
namespace {

// The program with its libraries, tokenizer and tables; with LibTorch, oneDNN's generated code and
// what the allocators keep. Estimates: with them the demo job's stages come within 5 % of what is
// measured.
constexpr Bytes kProgram = 40 * kMiB;
constexpr Bytes kTorch = 150 * kMiB;

}  // namespace

Bytes elements(const model::TensorSpec& tensor) {
  Bytes count = 1;
  for (const Index n : tensor.shape) count *= bytes_of(n);
  return count;
}

void keep_larger(Moment candidate, std::optional<Moment>& worst) {
  if (!worst || candidate.total() > worst->total()) worst = std::move(candidate);
}

std::optional<StageMemory> as_stage(std::optional<Moment> worst, const char* stage) {
  if (!worst) return std::nullopt;
  return std::move(*worst).as(stage);
}

Moment program(bool torch) {
  Moment moment;
  moment.add("the program and its libraries", kProgram + (torch ? kTorch : 0));
  return moment;
}

Bytes weights_of(const model::BlockSpec& block) {
  Bytes total = 0;
  for (const model::TensorSpec& tensor : block.tensors()) total += elements(tensor);
  return total;
}

// Linears that have been prepared for the forward pass when `until` is reached (null: all), in
// bfloat16; fp32 ones are borrowed.
Bytes prepared_of(const model::BlockSpec& block, Bytes compute_bytes,
                  const model::SiteSpec* until) {
  Bytes total = 0;
  if (compute_bytes == 4) return total;
  for (const model::SiteSpec& site : block.sites) {
    if (&site == until) break;
    for (const model::LinearSpec& linear : site.readers)
      total += compute_bytes * elements(linear.weight);
  }
  return total;
}

Moment with_block(const JobShapes& shapes, const model::BlockSpec& block,
                  const model::SiteSpec* site) {
  Moment moment = program(shapes.runs);
  moment.add(fmt::format("weights of {} in fp32", block.name), 4 * weights_of(block));
  moment.add("its linears in bfloat16", prepared_of(block, shapes.compute_bytes, site));
  return moment;
}

Bytes being_read(const JobShapes& shapes, const model::BlockSpec& block) {
  std::vector<Bytes> sizes;
  for (const model::TensorSpec& tensor : block.tensors())
    sizes.push_back(shapes.source_bytes * elements(tensor));
  std::sort(sizes.rbegin(), sizes.rend());
  sizes.resize(std::min<std::size_t>(sizes.size(), shapes.threads));
  Bytes total = 0;
  for (const Bytes size : sizes) total += size;
  return total;
}

Bytes sequence_bytes(const JobShapes& shapes, Bytes length, Bytes compute_bytes, bool staged) {
  return forward::sequence_bytes(shapes.family, static_cast<Index>(length), compute_bytes, staged);
}

Bytes calibration_tokens(const JobShapes& shapes) {
  const text::PackingOptions& packing = shapes.job.calibration.packing;
  return bytes_of(packing.n_samples * packing.seqlen);
}

Bytes widest_stash(const model::BlockSpec& block) {
  Index width = 0;
  for (const model::SiteSpec& site : block.sites)
    if (!site.from_norm)
      width = std::max(width, site.features());
  return bytes_of(width);
}

std::vector<Bytes> activations_of(const JobShapes& shapes, const model::BlockSpec& block,
                                  Bytes stash_width) {
  if (!shapes.runs) return {};
  const Bytes tokens = calibration_tokens(shapes);
  const Bytes hidden = 4 * tokens * bytes_of(shapes.family.config.hidden_size);
  std::vector<Bytes> arrays = {hidden};
  if (shapes.upstream) {
    arrays.push_back(hidden);
    for (const model::SiteSpec& site : block.sites)
      if (site.expert < 0)
        arrays.push_back(tokens * bytes_of(site.features()) * shapes.compute_bytes);
  }
  if (stash_width > 0) arrays.push_back(tokens * stash_width * shapes.compute_bytes);
  return arrays;
}

bool is_norm(const model::SiteSpec& site) { return site.from_norm; }

std::vector<Bytes> activations_at(const JobShapes& shapes, const model::BlockSpec& block,
                                  const model::SiteSpec& site) {
  return activations_of(shapes, block, is_norm(site) ? 0 : bytes_of(site.features()));
}

std::string square(const char* what, const model::BlockSpec& block, const model::SiteSpec& site) {
  return fmt::format("{} of {} {}, {} x {}", what, block.name, site.name, site.features(),
                     site.features());
}

Bytes gram(const model::SiteSpec& site) {
  return 4 * bytes_of(site.features()) * bytes_of(site.features());
}

Bytes kept_grams(const JobShapes& shapes, const model::BlockSpec& block,
                 const model::SiteSpec& but) {
  Bytes total = 0;
  if (!shapes.runs || shapes.job.quantization.propagate_error) return total;
  for (const model::SiteSpec& site : block.sites)
    if (&site != &but) total += gram(site);
  return total;
}

JobShapes::JobShapes(const job::Job& the_job, const model::FamilySpec& the_family,
                     const std::vector<formats::ExportPlan>& the_plans)
    : job(the_job), family(the_family), plans(the_plans) {
  const bool linears = std::any_of(plans.begin(), plans.end(), job::quantizes_a_linear);
  runs = job.calibration.given() && linears;
  for (const formats::ExportPlan& plan : plans)
    upstream = upstream || (runs && upstream_correction_for(job, plan) > 0);
  threads = static_cast<Bytes>(job.runtime.threads > 0
                                   ? std::min(job.runtime.threads, available_threads())
                                   : available_threads());
  if (forward::compute_dtype_from(job.runtime.forward_dtype) == forward::ComputeDType::kBFloat16)
    compute_bytes = 2;
  source_bytes = family.config.dtype == "float32" ? 4 : 2;
}

}  // namespace calque::forecast
