#pragma once

#include <string>
#include <type_traits>

#include "calque/core/copies.h"
#include "forward/cpu/rows.h"

// The loops over activations that take time beside the products: arithmetic is fp32 whatever T
// (float or BFloat16) stores. loops.cpp is compiled for every machine and once more for AVX-512;
// both copies give the same bits.
namespace calque::forward {

template <typename T>
struct LoopsOf {
  // out = x / sqrt(mean(x^2) + eps) * (offset + weight), row by row. `out` may be `x`.
  void (*rms_norm)(MatrixView<const float> x_TH, const NormWeight& norm, MatrixView<T> out_TH);
  void (*widen)(MatrixView<const T> values_TH, MatrixView<float> out_TH);
  // sum += values.
  void (*add)(MatrixView<const T> values_TH, MatrixView<float> sum_TH);
  // weights = e^(scale (score - largest score)), rounded to T; returns the sum of the rounded ones
  // and of e^(sink - scale largest score), so that divided by it they and the sink's weight add up
  // to one. A sink of -infinity weighs nothing. `weights` may be `scores`.
  float (*soften)(const float* scores, Index count, float scale, float sink, T* weights);
  // gate = act(gate) * up, `act` by its name in the config: "silu", or "gelu_pytorch_tanh". In bf16
  // the latter rounds after every step, as transformers' operators do, and has the bits of
  // PyTorch 1.13's. Rows of gate_TN follow one another without a gap.
  void (*gate)(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN);
  // gate = (up + 1) g sigmoid(slope g), g = min(gate, limit), up cut at -limit and limit.
  void (*gate_clamped)(float limit, float slope, MatrixView<const T> up_TN, MatrixView<T> gate_TN);
  // values *= sigmoid(gate).
  void (*gate_by_sigmoid)(MatrixView<const T> gate_TN, MatrixView<T> values_TN);
  // out = x / sqrt(mean(x^2) + eps) * (offset + weight) * silu(gate), row by row.
  void (*norm_and_gate)(MatrixView<const float> x_TN, const NormWeight& norm,
                        MatrixView<const T> gate_TN, MatrixView<T> out_TN);
  // out_t = silu(sum over j of taps_j x_(t + j)), channel by channel; x has as many more rows than
  // `out` as there are taps after the first.
  void (*convolve)(MatrixView<const T> x_SN, MatrixView<const float> taps_JN,
                   MatrixView<float> out_TN);
};

struct Loops {
  LoopsOf<float> of_float;
  LoopsOf<BFloat16> of_bfloat16;
  // Soft caps with the bits of PyTorch 1.13's tanh; rows follow one another without a gap.
  // scores = cap * tanh(scores * (scale / cap)).
  void (*cap_scores)(float scale, float cap, MatrixView<float> scores);
  // logits = cap * tanh(logits / cap).
  void (*cap_logits)(float cap, MatrixView<float> logits);
  // For a chunk of the delta rule: C rows of scores of queries above C of keys, C columns each. Row
  // t is multiplied by e^(decays_t - decays_j) in its columns j <= t, those of keys by rates_t,
  // too; the other columns become 0.
  void (*weigh_scores)(MatrixView<const float> scores, const double* decays, const float* rates,
                       MatrixView<float> weights);
  // Solves (1 + L) x = b, where L is the part of `lower_CC` below its diagonal; b becomes x.
  void (*substitute)(MatrixView<const float> lower_CC, MatrixView<float> values_CN);
  // Weights rounded to bf16 in the order of oneDNN's BA16a<strip>b2a: for every `strip` rows, at
  // most kMostStrip, [pairs of columns][strip][2]. Rows and columns that `weight_NK` lacks are 0.
  // `out` has room for whole strips of 2 `pairs` columns.
  void (*pack_pairs)(MatrixView<const float> weight_NK, Index strip, Index pairs, BFloat16* out);
};
inline constexpr Index kMostStrip = 64;

CALQUE_COPIES(const Loops& compiled_loops();)

// The copy for instruction_set() (mixer.cpp).
const Loops& loops();

template <typename T>
const LoopsOf<T>& loops_of() {
  if constexpr (std::is_same_v<T, float>)
    return loops().of_float;
  else
    return loops().of_bfloat16;
}

}  // namespace calque::forward
