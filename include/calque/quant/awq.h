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

// AWQ's channel scales (arXiv 2306.00978; src/quant/README.md, "AWQ: channel scales"): columns of
// the linears that read one input are multiplied by s_k before rounding and the input is divided by
// s_k, so that important channels lie on a finer part of their group's grid.

// The loss that the search minimizes.
enum class AwqLoss {
  kGram,    // error of the linears' outputs, from their Gram matrix
  kOutput,  // error of the whole attention or MLP output, run for every candidate (the paper's
            // loss)
};

struct AwqOptions {
  AwqLoss loss = AwqLoss::kGram;  // kOutput needs a ScaleLoss that runs a block
  int n_grid = 20;  // ratios tried: s = magnitude^r / weight_magnitude^(1 - r), r = i / n_grid
  ScaleRule scale_rule = ScaleRule::kMinMax;  // rule of the trial roundings
  Index sampled_rows = 256;  // rows of each reader used for the loss, evenly spread
};

// A linear that reads the rescaled input and will be rounded.
struct ChannelReader {
  MatrixView<const float> weight_NK;
  Grid grid;
};

// Changes proposed scales into scales that the model's files can hold (ties, exact norms, powers of
// two).
using ScaleSnap = std::function<void(std::span<float> scales_K)>;

// Measures the loss of the current scales; `trial(reader)` returns Q(W s) / s for all rows.
using TrialWeights = std::function<Matrix<float>(std::size_t reader)>;
using ScaleLoss = std::function<double(const TrialWeights& trial)>;

struct AwqScales {
  std::vector<float> scales_K;  // all ones if the identity was best
  double ratio = -1;            // r of the best candidate; -1: the identity
  double loss = 0;              // loss of the best candidate
  double identity_loss = 0;
};

// Tries the identity and every ratio and keeps the smallest loss (the first of equal ones). Without
// `loss`: tr(E G E^T), E = Q(W s) / s - W, estimated from the sampled rows with the Gram matrix of
// `stats`, no forward pass. `snap` may be null. Statistics must not be empty. The result does not
// depend on the number of threads.
AwqScales search_scales(const std::vector<ChannelReader>& readers, const quant::InputStats& stats,
                        const AwqOptions& options, const ScaleSnap& snap, const ScaleLoss& loss,
                        const Exec& exec);

// Number of sequences that each candidate is run on for the loss kOutput.
inline constexpr Index kOutputSequences = 8;

// Cost of the search for one reader: every trial rounds rows and measures their loss. `seqlen` is
// the length of kOutput's sequences; 0: the loss is kGram.
Cost scale_trials_cost(const AwqOptions& options, Index N, Index K, Index seqlen);

// Statistics of the input divided by `scales_K`, computed in place: gram_ij / (s_i s_j) and
// magnitude_i / s_i.
quant::InputStats rescaled(quant::InputStats stats, std::span<const float> scales_K);

// weight_nk *= s_k, and weight_nk /= s_k.
void multiply_columns(MatrixView<float> weight_NK, std::span<const float> scales_K);
void divide_columns(MatrixView<float> weight_NK, std::span<const float> scales_K);

// The power of two nearest to `value` on a logarithmic scale.
float nearest_power_of_two(float value);

// The scale nearest to `proposed` for which `norm` / scale (plus_one: (1 + norm) / scale - 1) is a
// number that `dtype` holds, so that the file's norm makes up for the scale exactly. 1 where the
// norm's factor is zero.
float exact_norm_scale(float norm, bool plus_one, DType dtype, float proposed);

// Divides row n of the matrix by divisors_N[n]: codes stay, scales and offsets are divided and
// rounded to the grid's precision (exact for powers of two that stay in range). Error(kInternal)
// for a grid with `block`.
void divide_rows(QuantizedMatrix& q, std::span<const float> divisors_N);

// The divisors, powers of two, that keep every scale of `q` in the range of its precision: each
// comes no farther towards 1 than that takes. A group whose values are all 0 has no range to keep.
void keep_in_range(const QuantizedMatrix& q, std::span<float> divisors_N);

}  // namespace calque::quant
