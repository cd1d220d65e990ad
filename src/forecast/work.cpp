#include "calque/forecast/work.h"

#include <algorithm>
#include <filesystem>

#include "calque/calib/reference_stream.h"
#include "calque/forward/cost.h"
#include "calque/job/passes.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/quant/awq.h"
#include "calque/quant/methods.h"
#include "calque/quant/upstream.h"

namespace calque::forecast {
namespace {

bool runs(const job::Job& job, const formats::ExportPlan& plan) {
  return job.calibration.given() && job::quantizes_a_linear(plan);
}

bool any_reader(const formats::ExportPlan& plan, const model::SiteSpec& site, auto has) {
  return std::any_of(site.readers.begin(), site.readers.end(), [&](const auto& linear) {
    const auto& grid = plan.at(linear.weight.name).grid;
    return grid && has(*grid);
  });
}

Index reader_rows(const model::SiteSpec& site) {
  Index rows = 0;
  for (const model::LinearSpec& linear : site.readers) rows += linear.out_features();
  return rows;
}

// Rounding one matrix, without the factorization of its site's Hessian.
Work rounding_work(const job::QuantizationSettings& settings, const formats::TensorPlan& planned,
                   bool calibrated) {
  Work work;
  if (!planned.grid) return work;
  const quant::RoundingCost cost = settings.rounding->cost(
      settings.rounding_options(),
      {.grid = *planned.grid, .calibrated = calibrated, .weighed = !settings.imatrix.empty()},
      planned.tensor.shape[0], planned.tensor.shape[1]);
  work[WorkKind::kEnergies] = cost.energies.flops;
  work[WorkKind::kSearchedWeights] = cost.scale_search.searched_weights;
  work[WorkKind::kClippedProducts] = cost.scale_search.flops;
  work[WorkKind::kSweep] = cost.sweep.flops;
  work[WorkKind::kRefinement] = cost.refine_grid.flops;
  work[WorkKind::kBlockRefinement] = cost.refine_blocks.flops;
  work[WorkKind::kBlockNanoseconds] = cost.ggml_nanoseconds;
  return work;
}

}  // namespace

Work site_work(const job::Job& job, const formats::ExportPlan& plan, const model::SiteSpec& site,
               double tokens) {
  Work work;
  const bool calibrated = runs(job, plan);
  const Index K = site.features();
  for (const model::LinearSpec& linear : site.readers)
    work += rounding_work(job.quantization, plan.at(linear.weight.name), calibrated);
  if (!calibrated || site.readers.empty()) return work;
  work[WorkKind::kLinears] = forward::linear_cost(reader_rows(site), K, tokens).flops;
  const Cost gram = gram_cost(tokens, K);
  work[WorkKind::kGram] = gram.flops;
  work[WorkKind::kRows] = gram.elements;
  if (!job.quantization.rounding->feeds_back || !any_reader(plan, site, quant::takes_feedback))
    return work;
  const Cost factorisation = inverse_cholesky_cost(K);
  work[WorkKind::kFactorisation] = factorisation.flops;
  work[WorkKind::kDoubleFactorisation] = factorisation.double_flops;
  return work;
}

namespace {

Work upstream_work(const model::SiteSpec& site, double tokens) {
  Work work;
  const Cost shift = calib::input_shift_cost(site.features(), tokens);
  work[WorkKind::kShift] = shift.flops;
  work[WorkKind::kRows] = shift.elements;
  work[WorkKind::kCorrection] =
      quant::upstream_correction_cost(site.features(), reader_rows(site)).flops;
  return work;
}

bool rescales(const job::Job& job, const model::BlockSpec& block, const model::SiteSpec& site) {
  return job.quantization.transform->rescales_channels() && block.fold_of(site) != nullptr;
}

// Trials of channel scales.
Work trials_work(const job::Job& job, const model::SiteSpec& site) {
  Work work;
  if (!job.quantization.transform->tries_candidates) return work;
  const bool whole = job.quantization.measures_outputs() && site.from_norm;
  for (const model::LinearSpec& linear : site.readers) {
    const Cost cost =
        quant::scale_trials_cost(job.quantization.awq, linear.out_features(), linear.in_features(),
                                 whole ? job.calibration.packing.seqlen : 0);
    work[WorkKind::kTrials] += cost.searched_weights;
    work[WorkKind::kTrialProducts] += cost.flops;
  }
  return work;
}

double tokens_at(const job::Job& job, const model::BlockSpec& block, const model::SiteSpec& site) {
  const text::PackingOptions& packing = job.calibration.packing;
  const auto tokens = static_cast<double>(packing.n_samples) * static_cast<double>(packing.seqlen);
  return forward::tokens_at(block, site, tokens);
}

Work written_work(const formats::TensorPlan& planned, std::size_t exports) {
  Work work;
  double weights = 1;
  for (const Index n : planned.tensor.shape) weights *= static_cast<double>(n);
  work[WorkKind::kLoadedWeights] = weights;
  const auto files = static_cast<double>(exports);
  if (planned.grid)
    work[WorkKind::kPackedWeights] = files * weights;
  else
    work[WorkKind::kCopiedBytes] = files * static_cast<double>(planned.bytes);
  return work;
}

// Running a whole block, without the linears of its sites.
Work between_linears(const job::Job& job, const model::FamilySpec& family,
                     const model::BlockSpec& block) {
  Work work;
  const auto rows = static_cast<double>(job.calibration.packing.n_samples);
  const auto length = static_cast<double>(job.calibration.packing.seqlen);
  const Cost cost = forward::between_linears_cost(block, family.config.hidden_size, rows, length);
  work[WorkKind::kAttention] = cost.flops;
  work[WorkKind::kScores] = cost.exponentials;
  work[WorkKind::kElements] = cost.elements;
  return work;
}

// The head, where its inputs are measured. The forward pass does not run it.
std::optional<model::BlockSpec> measured_head(const job::Job& job, const model::FamilySpec& family,
                                              const formats::ExportPlan& plan) {
  if (!runs(job, plan) || !plan.at(family.head().name).grid) return std::nullopt;
  return family.head_block();
}

Work head_work(const job::Job& job, const formats::ExportPlan& plan, const model::BlockSpec& head) {
  const model::SiteSpec& site = head.sites.front();
  const double tokens = tokens_at(job, head, site);
  Work work = site_work(job, plan, site, tokens);
  work[WorkKind::kLinears] = 0;
  if (job::upstream_correction_for(job, plan) > 0) work += upstream_work(site, tokens);
  return work;
}

// The work of a pass outside the blocks: embedding, head, norms.
Work outside_work(const job::Job& job, const model::FamilySpec& family,
                  const formats::ExportPlan& plan, std::size_t exports) {
  Work work;
  const auto head = measured_head(job, family, plan);
  if (head) work += head_work(job, plan, *head);
  for (const formats::TensorPlan& planned : plan.tensors) {
    if (planned.in_block_linear || planned.tensor.name.find(".layers.") != std::string::npos)
      continue;
    work += written_work(planned, exports);
    const bool measured = head && planned.tensor.name == family.head().name;
    if (planned.tensor.shape.size() == 2 && !measured)
      work += rounding_work(job.quantization, planned, false);
  }
  return work;
}

Work tokenizing_work(const job::Job& job) {
  Work work;
  std::error_code ignored;
  for (const text::TextSource& source : job.calibration.sources) {
    const auto bytes = std::filesystem::file_size(source.path, ignored);
    if (!ignored) work[WorkKind::kTokenizedBytes] += static_cast<double>(bytes);
  }
  return work;
}

}  // namespace

Work& Work::operator+=(const Work& other) {
  for (std::size_t i = 0; i < kWorkKinds; ++i) amounts_[i] += other.amounts_[i];
  return *this;
}

Work block_work(const job::Job& job, const model::FamilySpec& family,
                const formats::ExportPlan& plan, const model::BlockSpec& block,
                std::size_t exports) {
  Work work;
  const bool upstream = runs(job, plan) && job::upstream_correction_for(job, plan) > 0;
  double linears = 0;
  for (const model::SiteSpec& site : block.sites) {
    const double tokens = tokens_at(job, block, site);
    work += site_work(job, plan, site, tokens);
    linears += forward::linear_cost(reader_rows(site), site.features(), tokens).flops;
    if (!runs(job, plan) || !any_reader(plan, site, [](const auto&) { return true; })) continue;
    if (upstream) work += upstream_work(site, tokens);
    if (rescales(job, block, site)) work += trials_work(job, site);
  }
  for (const model::TensorSpec& tensor : block.tensors())
    work += written_work(plan.at(tensor.name), exports);
  if (!runs(job, plan)) return work;
  // Nothing reads the output of the last block, unless the head is measured.
  const model::SiteSpec& last = block.sites.back();
  if (family.is_last(block) && last.expert < 0 && !measured_head(job, family, plan))
    work[WorkKind::kLinears] -=
        forward::linear_cost(reader_rows(last), last.features(), tokens_at(job, block, last)).flops;
  const Work between = between_linears(job, family, block);
  work += between;
  if (upstream) {  // the original runs as a whole
    work += between;
    work[WorkKind::kLinears] += linears;
  }
  return work;
}

Work job_work(const job::Job& job, const model::FamilySpec& family,
              const std::vector<formats::ExportPlan>& plans) {
  const model::FamilySpec measured = job::measured_family(job, family);
  Work work = tokenizing_work(job);
  for (const std::vector<std::size_t>& exports : job::group_by_grids(plans)) {
    const formats::ExportPlan& plan = plans[exports.front()];
    for (const model::BlockSpec& block : measured.blocks)
      work += block_work(job, measured, plan, block, exports.size());
    work += outside_work(job, family, plan, exports.size());
  }
  work += evaluation_work(job, family, plans);
  return work;
}

}  // namespace calque::forecast
