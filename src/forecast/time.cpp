#include "calque/forecast/time.h"

#include <algorithm>
#include <array>
#include <utility>

#include "calque/core/stopwatch.h"
#include "calque/forward/block_runner.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/products.h"
#include "calque/record/stages.h"

namespace calque::forecast {
namespace {

// ---- The one table of efficiencies

// The precision of the plain product that a cost is measured against.
enum class Against { kFloat32, kForward, kEvaluation };

// The cost of one unit of work, in operations of a plain product on all of the job's threads in the
// same time.
struct WorkCost {
  WorkKind kind;
  double record::StageSeconds::*stage;
  Against against;
  double operations;
};

using S = record::StageSeconds;
using K = WorkKind;
constexpr Against kF32 = Against::kFloat32;
constexpr Against kForward = Against::kForward;
constexpr Against kEval = Against::kEvaluation;

// Products: the reciprocal of the shares of a plain product's rate that experiments/benchmarks
// measured (README.md there: Gram matrix 0.88 to 0.94, sweep 0.73, refinement 0.76, energies 0.80,
// factorisation in double 0.19; in bfloat16 the product that is measured is itself a Gram matrix);
// llama.cpp's roundings: its nanoseconds at 160 GFLOP/s a thread. What is no product, linears,
// attention and heads: fitted to the processor seconds of two jobs on two cores of a Xeon with AMX,
// one on the demo model (Q4_K_M, 64 x 512 tokens) and one of SmolLM2-135M's shape with four layers
// (GPTQ, 16 x 512), and to experiments/benchmarks' whole jobs in float32.
constexpr std::array<WorkCost, kWorkKinds> kCosts = {{
    {K::kTokenizedBytes, &S::tokenize, kF32, 60000},
    {K::kLoadedWeights, &S::load, kF32, 150},
    {K::kLinears, &S::forward, kForward, 1.05},
    {K::kAttention, &S::forward, kF32, 1.0},
    {K::kScores, &S::forward, kF32, 60},
    {K::kElements, &S::forward, kF32, 60},
    {K::kGram, &S::statistics, kForward, 1.05},
    {K::kRows, &S::statistics, kF32, 30},
    {K::kShift, &S::statistics, kF32, 1.2},
    {K::kCorrection, &S::transform, kF32, 1.3},
    {K::kTrials, &S::transform, kF32, 600},
    {K::kTrialProducts, &S::transform, kF32, 1.25},
    {K::kFactorisation, &S::quantize, kF32, 1.6},
    {K::kDoubleFactorisation, &S::quantize, kF32, 5.3},
    {K::kSweep, &S::quantize, kF32, 1.37},
    {K::kRefinement, &S::quantize, kF32, 1.32},
    {K::kBlockRefinement, &S::quantize, kF32, 1.6},
    {K::kEnergies, &S::quantize, kF32, 1.25},
    {K::kSearchedWeights, &S::quantize, kF32, 4000},
    {K::kClippedProducts, &S::quantize, kF32, 3},
    {K::kBlockNanoseconds, &S::quantize, kF32, 160},
    {K::kPackedWeights, &S::write, kF32, 500},
    {K::kCopiedBytes, &S::write, kF32, 150},
    {K::kEvaluatedBytes, &S::evaluate, kF32, 60000},
    {K::kEvaluatedWeights, &S::evaluate, kF32, 400},
    {K::kEvaluatedLinears, &S::evaluate, kEval, 1.1},
    {K::kEvaluatedAttention, &S::evaluate, kF32, 1.0},
    {K::kEvaluatedScores, &S::evaluate, kF32, 60},
    {K::kEvaluatedElements, &S::evaluate, kF32, 60},
    {K::kHeads, &S::evaluate, kEval, 1.1},
    {K::kProbabilities, &S::evaluate, kF32, 150},
}};

// ---- The machine

constexpr Index kSize = 1024;           // size of the plain product's matrices
constexpr double kOutsideStages = 0.4;  // seconds: loading libraries, opening files; measured
constexpr double kTooShort = 0.01;      // seconds

bool is_bf16(const std::string& dtype) {
  return forward::compute_dtype_from(dtype) == forward::ComputeDType::kBFloat16;
}

// Values that are fast to multiply: no denormals, no overflow.
float value_at(Index i) { return static_cast<float>(i % 17 - 8) / 8.0f; }

// Operations per second of `work`: the median of as many runs as fit. Steady load by others counts,
// a single interruption does not.
template <typename Product>
double rate_of(double operations, double at_least, Product product) {
  product();
  std::vector<double> seconds;
  for (const Stopwatch all; all.seconds() < at_least || seconds.size() < 3;) {
    const Stopwatch watch;
    product();
    seconds.push_back(watch.seconds());
  }
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return operations / *middle;
}

double float32_rate(double at_least, const Exec& exec) {
  Matrix<float> a_NK(kSize, kSize);
  for (Index i = 0; i < a_NK.size(); ++i) a_NK.data()[i] = value_at(i);
  const double size = kSize;
  return rate_of(product_cost(size, size, size).flops, at_least,
                 [&] { multiply(a_NK, a_NK, exec); });
}

double bfloat16_rate(double at_least, const Exec& exec) {
  Matrix<BFloat16> rows_TK(2 * kSize, kSize);
  for (Index i = 0; i < rows_TK.size(); ++i) rows_TK.data()[i] = to_bfloat16(value_at(i));
  Matrix<float> gram_KK(kSize, kSize);
  std::vector<double> magnitude_K(kSize);
  return rate_of(gram_cost(2.0 * kSize, kSize).flops, at_least, [&] {
    accumulate_gram(std::as_const(rows_TK).view(), gram_KK, magnitude_K, exec);
  });
}

double rate_against(Against against, const job::Job& job, const MachineRates& rates) {
  const bool bf16 =
      (against == Against::kForward && is_bf16(job.runtime.forward_dtype)) ||
      (against == Against::kEvaluation && job.evaluate && is_bf16(job.evaluate->dtype));
  return bf16 ? rates.bfloat16 : rates.float32;
}

}  // namespace

MachineRates measure_rates(const job::Job& job, double seconds) {
  const Exec exec = open_exec("cpu", job.runtime.threads);
  const bool bf16 = (job.calibration.given() && is_bf16(job.runtime.forward_dtype)) ||
                    (job.evaluate && is_bf16(job.evaluate->dtype));
  const double each = bf16 ? seconds / 2 : seconds;
  MachineRates rates;
  rates.float32 = rates.bfloat16 = float32_rate(each, exec);
  if (bf16) rates.bfloat16 = bfloat16_rate(each, exec);
  return rates;
}

record::StageSeconds seconds_of(const Work& work, const job::Job& job, const MachineRates& rates) {
  record::StageSeconds seconds;
  for (const WorkCost& cost : kCosts)
    seconds.*cost.stage +=
        work[cost.kind] * cost.operations / rate_against(cost.against, job, rates);
  return seconds;
}

record::StageSeconds corrected(const record::StageSeconds& predicted,
                               const record::StageSeconds& expected,
                               const record::StageSeconds& measured) {
  record::StageSeconds result = predicted;
  for (const record::NamedStage& stage : record::kStages)
    if (expected.*stage.seconds > 0 && measured.*stage.seconds >= kTooShort)
      result.*stage.seconds *= measured.*stage.seconds / expected.*stage.seconds;
  return result;
}

TimePrediction prediction_of(const record::StageSeconds& stages, std::string from) {
  return {sum(stages) + kOutsideStages, std::move(from), stages};
}

TimePrediction predict_time(const job::Job& job, const model::FamilySpec& family,
                            const std::vector<formats::ExportPlan>& plans,
                            const MachineRates& rates) {
  return prediction_of(seconds_of(job_work(job, family, plans), job, rates), "estimate");
}

}  // namespace calque::forecast
