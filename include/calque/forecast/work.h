#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"

namespace calque::forecast {

// The kinds of work that a job does. Amounts are the operations' own costs (core/cost.h, and next
// to each declaration), summed over shapes, sites, blocks and passes. Products count floating-point
// operations (a multiply-add is two); other kinds count what their name says.
enum class WorkKind {
  kTokenizedBytes,  // calibration text
  kLoadedWeights,   // read and widened to fp32
  // forward, in its own precision
  kLinears,
  kAttention,
  kScores,    // exponentials
  kElements,  // between the linears
  // statistics
  kGram,
  kRows,   // numbers read
  kShift,  // differences between the original's inputs and these
  // transform
  kCorrection,     // for errors upstream
  kTrials,         // sample weights that candidate channel scales are tried on
  kTrialProducts,  // their losses
  // quantize
  kFactorisation,        // in fp32
  kDoubleFactorisation,  // in double
  kSweep,
  kRefinement,
  kBlockRefinement,
  kEnergies,          // squared norms of errors and weights
  kSearchedWeights,   // scales by search
  kClippedProducts,   // AWQ's clipping
  kBlockNanoseconds,  // llama.cpp's roundings
  // write
  kPackedWeights,
  kCopiedBytes,
  // evaluate: all models, in the evaluation's precision
  kEvaluatedBytes,  // evaluation text
  kEvaluatedWeights,
  kEvaluatedLinears,
  kEvaluatedAttention,
  kEvaluatedScores,
  kEvaluatedElements,
  kHeads,
  kProbabilities,  // exponentials
};
inline constexpr std::size_t kWorkKinds = static_cast<std::size_t>(WorkKind::kProbabilities) + 1;

// An amount for each kind of work.
class Work {
 public:
  double& operator[](WorkKind kind) { return amounts_[static_cast<std::size_t>(kind)]; }
  double operator[](WorkKind kind) const { return amounts_[static_cast<std::size_t>(kind)]; }
  Work& operator+=(const Work& other);
  friend Work operator*(double times, Work work) {
    for (double& amount : work.amounts_) amount *= times;
    return work;
  }

 private:
  std::array<double, kWorkKinds> amounts_{};
};

// One site over `tokens` rows: running its readers, measuring and rounding them.
Work site_work(const job::Job& job, const formats::ExportPlan& plan, const model::SiteSpec& site,
               double tokens);

// One block of one pass, including what it adds to `exports` files.
Work block_work(const job::Job& job, const model::FamilySpec& family,
                const formats::ExportPlan& plan, const model::BlockSpec& block,
                std::size_t exports);

// Evaluation of the original and of one model per plan.
Work evaluation_work(const job::Job& job, const model::FamilySpec& family,
                     const std::vector<formats::ExportPlan>& plans);

// A whole job, with a pass for each set of grids.
Work job_work(const job::Job& job, const model::FamilySpec& family,
              const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::forecast
