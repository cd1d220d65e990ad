#pragma once

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"
#include "calque/model/config.h"
#include "calque/model/kv_cache.h"
#include "model/torch/rows.h"

namespace calque::model {

// Cosines and sines of every position's angles, [positions, head_dim / 2].
class Rotary {
 public:
  Rotary(const RopeSpec& rope, Index head_dim, Index positions);

  // out = x turned by the angles of `position`; pairs are (i, i + head_dim / 2), as in Hugging Face
  // checkpoints. `out` must not be `x`.
  void turn(const float* x, Index position, float* out) const;

 private:
  Matrix<float> cosines_;
  Matrix<float> sines_;
};

struct AttentionSpec {
  Index heads = 0;
  Index kv_heads = 0;
  Index head_dim = 0;
  Index window = 0;   // tokens seen, the own one included; 0: all before
  float scale = 1;    // of the scores
  float softcap = 0;  // scores become cap * tanh(score / cap); 0: no cap
  NormWeight q_norm;  // empty: none
  NormWeight k_norm;
  const KvCacheRounding* kv_cache = nullptr;  // null: keys and values stay as they are
};

// q, k and v of one sequence as the projections left them: heads side by side.
template <typename T>
struct Projections {
  MatrixView<const T> q_TN;
  MatrixView<const T> k_TN;
  MatrixView<const T> v_TN;
};

// Causal softmax attention of one sequence: norms of q and k (if any), rotation, scores, softmax
// and sums in fp32; queries and keys after rotation, softmax weights and the result are rounded to
// T, as a bf16 model's own implementations do; what `kv_cache` makes of keys and values is, too.
// Runs on the calling thread.
template <typename T>
void attend(const AttentionSpec& spec, const Rotary& rotary, const Projections<T>& in,
            MatrixView<T> out_TN);

}  // namespace calque::model
