#include "forecast/stage_work.h"

#include <algorithm>
#include <filesystem>

#include "calque/forward/cost.h"
#include "calque/quant/awq.h"
#include "forecast/evaluation_work.h"
#include "calque/job/passes.h"
#include "calque/job/passes.h"

namespace calque::forecast {
namespace {

constexpr double kInDouble = 2048;     // kernels/cpu/inverse_cholesky.cpp
constexpr double kTrialSequences = 8;  // pipeline/channel_scales.cpp

double square(double x) { return x * x; }

bool runs(const job::Job& job, const formats::ExportPlan& plan) {
  return job.calibration.given() && job::quantizes_a_linear(plan);
}

bool rounds_any(const formats::ExportPlan& plan, const model::SiteSpec& site) {
  return std::any_of(site.readers.begin(), site.readers.end(),
                     [&](const auto& linear) { return plan.at(linear.weight.name).grid; });
}

double reader_rows(const model::SiteSpec& site) {
  double rows = 0;
  for (const model::LinearSpec& linear : site.readers)
    rows += static_cast<double>(linear.out_features());
  return rows;
}

// quant/upstream.cpp, pipeline/reference_stream.cpp.
Work upstream_work(const model::SiteSpec& site, double tokens) {
  Work work;
  const double K = static_cast<double>(site.features());
  work[WorkKind::kShift] = 2 * square(K) * tokens;
  work[WorkKind::kRows] = 2 * K * tokens;
  work[WorkKind::kCorrection] = 2 * square(K) * (2 * K + reader_rows(site)) + square(K) * K * 2 / 3;
  return work;
}

// quant/awq.cpp.
Work trials_work(const job::Job& job, const model::SiteSpec& site) {
  Work work;
  const double K = static_cast<double>(site.features());
  const double trials = static_cast<double>(job.quantization.awq.n_grid) + 1;
  const bool whole =
      job.quantization.awq.loss == quant::AwqLoss::kOutput && site.from_norm;
  const double sampled = static_cast<double>(quant::AwqOptions{}.sampled_rows);
  for (const model::LinearSpec& linear : site.readers) {
    const auto N = static_cast<double>(linear.out_features());
    const double rows = whole ? N : std::min(N, sampled);
    work[WorkKind::kTrials] += trials * rows * K;
    work[WorkKind::kTrialProducts] += whole
                                          ? trials * 4 * N * K * kTrialSequences *
                                                static_cast<double>(job.calibration.packing.seqlen)
                                          : trials * rows * square(K);
  }
  return work;
}

bool has_scales(const job::Job& job, const model::BlockSpec& block, const model::SiteSpec& site) {
  return job.quantization.transform->rescales_channels() && block.fold_of(site) != nullptr;
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

}  // namespace

Work& Work::operator+=(const Work& other) {
  for (std::size_t i = 0; i < kWorkKinds; ++i) amounts_[i] += other.amounts_[i];
  return *this;
}

Work site_work(const job::Job& job, const formats::ExportPlan& plan, const model::SiteSpec& site,
               double tokens) {
  Work work;
  const bool calibrated = runs(job, plan);
  const double K = static_cast<double>(site.features());
  for (const model::LinearSpec& linear : site.readers) {
    work += linear_work(job.quantization, plan.at(linear.weight.name), calibrated);
    if (calibrated)
      work[WorkKind::kLinears] += 2 * static_cast<double>(linear.out_features()) * K * tokens;
  }
  if (!calibrated || site.readers.empty()) return work;
  work[WorkKind::kGram] = K * (K + 1) * tokens;
  work[WorkKind::kRows] = K * tokens;
  const auto needs_factor = [&](const model::LinearSpec& linear) {
    const auto& grid = plan.at(linear.weight.name).grid;
    return grid && quant::takes_feedback(*grid);
  };
  if (job.quantization.rounding->feeds_back &&
      std::any_of(site.readers.begin(), site.readers.end(), needs_factor))
    work[K > kInDouble ? WorkKind::kFactorisation : WorkKind::kDoubleFactorisation] =
        2.0 / 3 * square(K) * K;
  return work;
}

Work block_work(const job::Job& job, const model::FamilySpec& family, const formats::ExportPlan& plan,
                const model::BlockSpec& block, std::size_t exports) {
  Work work;
  const bool upstream = runs(job, plan) && upstream_correction_for(job, plan) > 0;
  for (const model::SiteSpec& site : block.sites) {
    const double tokens = tokens_at(job, block, site);
    work += site_work(job, plan, site, tokens);
    if (!runs(job, plan) || !rounds_any(plan, site)) continue;
    if (upstream && site.expert < 0) work += upstream_work(site, tokens);
    if (has_scales(job, block, site)) work += trials_work(job, site);
  }
  for (const model::TensorSpec& tensor : block.tensors())
    work += written_work(plan.at(tensor.name), exports);
  if (!runs(job, plan)) return work;
  const model::SiteSpec& last = block.sites.back();
  if (family.is_last(block) && last.expert < 0)
    for (const model::LinearSpec& linear : last.readers)
      work[WorkKind::kLinears] -= 2 * static_cast<double>(linear.out_features()) *
                                  static_cast<double>(linear.in_features()) *
                                  tokens_at(job, block, last);
  const auto length = static_cast<double>(job.calibration.packing.seqlen);
  const Work between = between_linears(
      family.config, block, static_cast<double>(job.calibration.packing.n_samples), length);
  work += between;
  if (upstream) {  // the original, whole
    work += between;
    for (const model::SiteSpec& site : block.sites)
      work[WorkKind::kLinears] += 2 * reader_rows(site) * static_cast<double>(site.features()) *
                                  tokens_at(job, block, site);
  }
  return work;
}

Work outside_work(const job::Job& job, const formats::ExportPlan& plan, std::size_t exports) {
  Work work;
  for (const formats::TensorPlan& planned : plan.tensors) {
    if (planned.in_block_linear || planned.tensor.name.find(".layers.") != std::string::npos)
      continue;
    work += written_work(planned, exports);
    if (planned.tensor.shape.size() == 2) work += linear_work(job.quantization, planned, false);
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

Work job_work(const job::Job& job, const model::FamilySpec& family,
              const std::vector<formats::ExportPlan>& plans) {
  Work work = tokenizing_work(job);
  for (const std::vector<std::size_t>& exports : job::group_by_grids(plans)) {
    const formats::ExportPlan& plan = plans[exports.front()];
    for (const model::BlockSpec& block : family.blocks)
      work += block_work(job, family, plan, block, exports.size());
    work += outside_work(job, plan, exports.size());
  }
  work += evaluation_work(job, family, plans);
  return work;
}

}  // namespace calque::forecast
