#include "calque/quant/methods.h"
#include "calque/job/passes.h"
#include "forecast/stage_work.h"

// What rounding one matrix takes.

namespace calque::forecast {
namespace {

constexpr double kClipCandidates = 11;    // kernels/cpu/block_scale_search.cpp
constexpr double kScaleCodeSearch = 500;  // kernels/refine_blocks.h

// Of llama.cpp's roundings with importance, a thread of a processor with AVX-512.
double nanoseconds_a_weight(GgmlBlock type) {
  switch (type) {
    case GgmlBlock::kQ4_0:
    case GgmlBlock::kQ5_0:
      return 5.0;
    case GgmlBlock::kQ4_1:
    case GgmlBlock::kQ5_1:
      return 13.2;
    case GgmlBlock::kQ2_K:
      return 16.2;
    case GgmlBlock::kQ3_K:
      return 4.7;
    case GgmlBlock::kQ4_K:
    case GgmlBlock::kQ5_K:
      return 12.7;
    case GgmlBlock::kQ6_K:
      return 3.8;
    case GgmlBlock::kIQ4_NL:
    case GgmlBlock::kIQ4_XS:
      return 6.1;
    case GgmlBlock::kMXFP4:
      return 3.4;
    case GgmlBlock::kQ8_0:
    case GgmlBlock::kTQ1_0:
    case GgmlBlock::kTQ2_0:
      return 1.0;
  }
  return 0;
}

double rows_of(const formats::TensorPlan& planned) {
  return static_cast<double>(planned.tensor.shape[0]);
}
double columns_of(const formats::TensorPlan& planned) {
  return static_cast<double>(planned.tensor.shape[1]);
}

// quant/gptq_blocks.cpp.
Work blocks_work(const job::QuantizationSettings& settings, const formats::TensorPlan& planned,
                 bool calibrated) {
  Work work;
  const double K = columns_of(planned), weights = rows_of(planned) * K;
  const double passes = static_cast<double>(settings.options.refine_passes);
  const double nanoseconds = nanoseconds_a_weight(*planned.grid->block) * weights;
  work[WorkKind::kBlockNanoseconds] = nanoseconds;
  if (calibrated) work[WorkKind::kEnergies] = 2 * weights * K;
  if (!settings.rounding->feeds_back || !quant::takes_feedback(*planned.grid)) return work;
  if (calibrated) {
    const double rounds = passes > 0 ? settings.options.rounds : 1;
    work[WorkKind::kSweep] = rounds * weights * K;
    if (passes > 0)
      work[WorkKind::kBlockRefinement] =
          rounds * 2 * weights * (K + (K + kScaleCodeSearch) * passes);
  } else if (passes > 0 && settings.imatrix.empty()) {
    work[WorkKind::kBlockNanoseconds] = 2 * nanoseconds;
    work[WorkKind::kBlockRefinement] = 2 * 2 * weights * kScaleCodeSearch * passes;
  }
  return work;
}

// quant/gptq.cpp, quant/rtn.cpp.
Work groups_work(const job::QuantizationSettings& settings, const formats::TensorPlan& planned,
                 bool calibrated) {
  Work work;
  const double K = columns_of(planned), weights = rows_of(planned) * K;
  const ScaleRule rule = settings.rounding_options().scale_rule;
  if (rule == ScaleRule::kSearch || (!calibrated && rule == ScaleRule::kBlockSearch))
    work[WorkKind::kSearchedWeights] = weights;
  if (!calibrated) return work;
  const auto group = static_cast<double>(planned.grid->group_size_for(planned.tensor.shape[1]));
  if (rule == ScaleRule::kBlockSearch) {
    work[WorkKind::kSearchedWeights] = weights;
    work[WorkKind::kClippedProducts] = 2 * kClipCandidates * weights * group;
  }
  work[WorkKind::kEnergies] = 2 * weights * K;
  if (!settings.rounding->feeds_back) return work;
  work[WorkKind::kSweep] = weights * K;
  if (settings.options.refine_passes > 0)
    work[WorkKind::kRefinement] =
        2 * weights * K * (1 + static_cast<double>(settings.options.refine_passes));
  return work;
}

}  // namespace

Work linear_work(const job::QuantizationSettings& settings, const formats::TensorPlan& planned,
                 bool calibrated) {
  if (!planned.grid) return {};
  return planned.grid->block ? blocks_work(settings, planned, calibrated)
                             : groups_work(settings, planned, calibrated);
}

}  // namespace calque::forecast
