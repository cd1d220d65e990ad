#pragma once

#include <span>

#include "calque/model/family.h"
#include "calque/model/weight_source.h"

namespace calque::model {

// Moves the scales of a fold (one a channel, positive, equal where FoldSpec::source_of is) inside a
// block's fp32 weights: absorber and bias divided, columns of the consumers multiplied. With powers
// of two nothing is rounded (kNormPlusOne: 1 + weight is), and the block's function stays the same
// to the last bit. Error(kInternal) if sizes do not match or a scale is not positive and finite.
void apply_fold(const FoldSpec& fold, std::span<const float> scales_K, BlockWeights& weights);

// The absorber alone (and its bias, if any): what a writer needs when the consumers are already
// rounded. `absorber` is [N, K] or 1 x n as loaded.
void divide_absorber(const FoldSpec& fold, std::span<const float> scales_K,
                     MatrixView<float> absorber);
void divide_bias(const FoldSpec& fold, std::span<const float> scales_K, MatrixView<float> bias_1N);

}  // namespace calque::model
