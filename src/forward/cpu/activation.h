#pragma once

#include <string>

#include "calque/core/matrix.h"

// Functions of every number of a matrix; those with a hyperbolic tangent have the bits of
// PyTorch 1.13's.
namespace calque::forward {

// gate_TN = act(gate_TN) * up_TN, `act` by its name in the config: "silu", or "gelu_pytorch_tanh".
// In bf16 the latter rounds after every step, as transformers' operators do. Rows of gate_TN follow
// one another without a gap.
template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN);

// Soft caps; rows follow one another without a gap. scores = cap * tanh(scores * (scale / cap)).
void cap_scores(float scale, float cap, MatrixView<float> scores);
// logits = cap * tanh(logits / cap).
void cap_logits(float cap, MatrixView<float> logits);

}  // namespace calque::forward
