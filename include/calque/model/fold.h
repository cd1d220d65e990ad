#pragma once

#include <span>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::model {

// Moves the scales of a fold (one per channel, positive, equal where FoldSpec::source_of is equal)
// inside a block's fp32 weights: divides absorber and bias, multiplies the consumers' columns. With
// powers of two nothing is rounded (except 1 + weight for kNormPlusOne), and the block computes the
// same bits as before. Error(kInternal) if sizes do not match or a scale is not positive and
// finite.
void apply_fold(const FoldSpec& fold, std::span<const float> scales_K, BlockWeights& weights);

// Divides the absorber alone, or its bias: for a writer whose consumers are already rounded.
// `absorber` is [N, K], or 1 x n as loaded.
void divide_absorber(const FoldSpec& fold, std::span<const float> scales_K,
                     MatrixView<float> absorber);
void divide_bias(const FoldSpec& fold, std::span<const float> scales_K, MatrixView<float> bias_1N);

}  // namespace calque::model
