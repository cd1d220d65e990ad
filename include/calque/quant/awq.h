#pragma once

#include <functional>
#include <span>
#include <vector>

#include "calque/core/cost.h"
#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"
#include "calque/quant/grid.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::quant {

// AWQ's channel scales (arXiv 2306.00978): columns of the linears that read one input are
// multiplied by s_k before rounding and the input divided by it, so that channels that matter more
// lie on a finer part of their group's grid.
// What its search makes small.
enum class AwqLoss {
  kGram,    // the error of the linears' outputs, from their Gram matrix
  kOutput,  // that of the attention's and the MLP's as a whole, run for every candidate: the
            // paper's
};

struct AwqOptions {
  AwqLoss loss = AwqLoss::kGram;  // for those who can run a block; search_scales takes a ScaleLoss
  int n_grid = 20;  // ratios tried: s = magnitude^r / weight_magnitude^(1 - r), r = i / n_grid
  ScaleRule scale_rule = ScaleRule::kMinMax;  // of the trial roundings
  Index sampled_rows = 256;  // rows of each reader that the losses are measured on, evenly spread
};

// The linears that read one input and will be rounded after it is rescaled.
struct AwqReader {
  MatrixView<const float> weight_NK;
  Grid grid;
};

// Turns proposed scales into scales that the model's files can hold (ties, exact norms, powers of
// two).
using ScaleSnap = std::function<void(std::span<float> scales_K)>;

// Loss of the scales, whatever measures it; `trial(reader)` gives Q(W s) / s of all rows.
using TrialWeights = std::function<Matrix<float>(std::size_t reader)>;
using ScaleLoss = std::function<double(const TrialWeights& trial)>;

struct AwqScales {
  std::vector<float> scales_K;  // all ones: the identity was best
  double ratio = -1;            // of the best candidate; -1: the identity
  double loss = 0;              // of the best candidate, in the units of the loss
  double identity_loss = 0;
};

// Tries the identity and every ratio, and keeps the smallest loss (the first of equal ones).
// Without `loss`: tr(E G E^T), E = Q(W s) / s - W, estimated from the sampled rows, with the Gram
// matrix of `stats` and no forward pass. `snap` may be null. Statistics must not be empty. The
// result does not depend on the number of threads.
AwqScales search_scales(const std::vector<AwqReader>& readers, const quant::InputStats& stats,
                        const AwqOptions& options, const ScaleSnap& snap, const ScaleLoss& loss,
                        const Exec& exec);

// Sequences that the loss kOutput runs each candidate on.
inline constexpr Index kOutputSequences = 8;

// What the search takes for one reader: every trial rounds rows of it and measures their loss.
// `seqlen`: of the sequences that kOutput runs; 0: the loss is kGram's.
Cost scale_trials_cost(const AwqOptions& options, Index N, Index K, Index seqlen);

// How a transform chooses channel scales (methods.h); search_scales is AWQ's way.
using ChooseScales = AwqScales (*)(const std::vector<AwqReader>& readers, const InputStats& stats,
                                   const AwqOptions& options, const ScaleSnap& snap,
                                   const ScaleLoss& loss, const Exec& exec);

// Statistics of the input after division by `scales_K`, in their own memory: gram_ij / (s_i s_j),
// magnitude_i / s_i.
quant::InputStats rescaled(quant::InputStats stats, std::span<const float> scales_K);

// weight_nk *= s_k; and /= s_k.
void multiply_columns(MatrixView<float> weight_NK, std::span<const float> scales_K);
void divide_columns(MatrixView<float> weight_NK, std::span<const float> scales_K);

// The nearest power of two in the logarithm.
float nearest_power_of_two(float value);

// The scale nearest to `proposed` for which `norm` / scale (plus_one: (1 + norm) / scale - 1) is a
// number that `dtype` holds, so that the file's norm makes up for the scale exactly. 1 where the
// norm's factor is zero.
float exact_norm_scale(float norm, bool plus_one, DType dtype, float proposed);

// The matrix whose rows are divided: codes stay, scales and offsets of row n become those of a
// matrix whose row n is divided by divisors_N[n], rounded to the grid's precision (exact for powers
// of two while they stay in range). Error(kInternal) for a grid with `block`.
void divide_rows(QuantizedMatrix& q, std::span<const float> divisors_N);

}  // namespace calque::quant
