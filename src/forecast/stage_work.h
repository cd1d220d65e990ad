#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "calque/job/job.h"

namespace calque::forecast {

// What a job computes, counted from shapes: T tokens, N outputs, K inputs, L tokens a sequence.
// Products in floating-point operations (a multiply-add is two), everything else in what it says.
enum class WorkKind {
  kTokenizedBytes,  // of the calibration text
  kLoadedWeights,   // read and widened to fp32
  // forward: in its own precision
  kLinears,    // 2 N K T
  kAttention,  // 4 heads head_dim for every key that a position sees
  kScores,     // such keys, for every head: exponentials
  kElements,   // numbers that norms, rotations, activations and residuals touch
  // statistics
  kGram,   // K (K + 1) T: half of a product
  kRows,   // K T numbers that are looked at
  kShift,  // 2 K^2 T, of the original's inputs with these
  // transform
  kCorrection,     // products with K x K matrices, 2 N K^2 each
  kTrials,         // rounding the samples of channel scales: weights
  kTrialProducts,  // their losses
  // quantize
  kFactorisation,        // 2/3 K^3 in fp32
  kDoubleFactorisation,  // the same in double, up to 2048 channels
  kSweep,                // N K^2
  kRefinement,           // 2 N K^2 (1 + passes)
  kBlockRefinement,      // 2 N K (K + 500) passes + 2 N K^2
  kEnergies,             // 2 N K^2, of the error and the weight
  kSearchedWeights,      // scales by search
  kClippedProducts,      // N K group for every candidate of AWQ's clipping
  kBlockNanoseconds,     // llama.cpp's roundings: weights times nanoseconds (README.md of
                         // experiments/benchmarks)
  // write
  kPackedWeights,
  kCopiedBytes,
  // evaluate: all models, in the precision of the evaluation
  kEvaluatedBytes,  // of its text
  kEvaluatedWeights,
  kEvaluatedLinears,
  kEvaluatedAttention,
  kEvaluatedScores,
  kEvaluatedElements,
  kHeads,          // 2 V H for every position
  kProbabilities,  // V for every position and model
};
constexpr std::size_t kWorkKinds = static_cast<std::size_t>(WorkKind::kProbabilities) + 1;

// Amounts by kind.
class Work {
 public:
  double& operator[](WorkKind kind) { return amounts_[static_cast<std::size_t>(kind)]; }
  double operator[](WorkKind kind) const { return amounts_[static_cast<std::size_t>(kind)]; }
  Work& operator+=(const Work& other);

 private:
  std::array<double, kWorkKinds> amounts_{};
};

using model::visible_keys;

// What a pass does with the settings of the job. `linear` is on `planned.grid`; one factorisation a
// site comes on top (site_work).
Work linear_work(const job::QuantizationSettings& settings, const formats::TensorPlan& planned,
                 bool calibrated);

// One site with `tokens` rows: running its readers, measuring, rounding them.
Work site_work(const job::Job& job, const formats::ExportPlan& plan, const model::SiteSpec& site,
               double tokens);

// One block of one pass, and what it adds to `exports` files. `last`: nothing reads its output.
Work block_work(const job::Job& job, const model::FamilySpec& family, const formats::ExportPlan& plan,
                const model::BlockSpec& block, std::size_t exports);

// What a pass does before and after the blocks: embedding, head, norms.
Work outside_work(const job::Job& job, const formats::ExportPlan& plan, std::size_t exports);

// Tokenizing; evaluating the original and one model for each plan.
Work tokenizing_work(const job::Job& job);
Work evaluation_work(const job::Job& job, const model::FamilySpec& family,
                     const std::vector<formats::ExportPlan>& plans);

// All of it, with a pass for each set of grids.
Work job_work(const job::Job& job, const model::FamilySpec& family,
              const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::forecast
