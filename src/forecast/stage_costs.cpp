#include "forecast/stage_costs.h"

namespace calque::forecast {
namespace {

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
    {K::kTokenizedBytes, "text, bytes", &S::tokenize, kF32, 60000},
    {K::kLoadedWeights, "weights read", &S::load, kF32, 150},
    {K::kLinears, "linears", &S::forward, kForward, 1.05},
    {K::kAttention, "attention", &S::forward, kF32, 1.0},
    {K::kScores, "attention scores", &S::forward, kF32, 60},
    {K::kElements, "elements between linears", &S::forward, kF32, 60},
    {K::kGram, "Gram matrices", &S::statistics, kForward, 1.05},
    {K::kRows, "rows measured", &S::statistics, kF32, 30},
    {K::kShift, "shift of the inputs", &S::statistics, kF32, 1.2},
    {K::kCorrection, "corrections", &S::transform, kF32, 1.3},
    {K::kTrials, "trial roundings", &S::transform, kF32, 600},
    {K::kTrialProducts, "losses of trials", &S::transform, kF32, 1.25},
    {K::kFactorisation, "factorisation", &S::quantize, kF32, 1.6},
    {K::kDoubleFactorisation, "factorisation in double", &S::quantize, kF32, 5.3},
    {K::kSweep, "GPTQ sweep", &S::quantize, kF32, 1.37},
    {K::kRefinement, "refinement", &S::quantize, kF32, 1.32},
    {K::kBlockRefinement, "refinement of blocks", &S::quantize, kF32, 1.6},
    {K::kEnergies, "energies", &S::quantize, kF32, 1.25},
    {K::kSearchedWeights, "scale search", &S::quantize, kF32, 4000},
    {K::kClippedProducts, "clipping search", &S::quantize, kF32, 3},
    {K::kBlockNanoseconds, "llama.cpp's roundings, ns", &S::quantize, kF32, 160},
    {K::kPackedWeights, "weights packed", &S::write, kF32, 500},
    {K::kCopiedBytes, "bytes copied", &S::write, kF32, 150},
    {K::kEvaluatedBytes, "text, bytes", &S::evaluate, kF32, 60000},
    {K::kEvaluatedWeights, "weights read", &S::evaluate, kF32, 400},
    {K::kEvaluatedLinears, "linears", &S::evaluate, kEval, 1.1},
    {K::kEvaluatedAttention, "attention", &S::evaluate, kF32, 1.0},
    {K::kEvaluatedScores, "attention scores", &S::evaluate, kF32, 60},
    {K::kEvaluatedElements, "elements between linears", &S::evaluate, kF32, 60},
    {K::kHeads, "heads", &S::evaluate, kEval, 1.3},
    {K::kProbabilities, "probabilities", &S::evaluate, kF32, 3000},
}};

}  // namespace

const std::array<WorkCost, kWorkKinds>& work_costs() { return kCosts; }

}  // namespace calque::forecast
