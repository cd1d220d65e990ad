#pragma once

#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"
#include "calque/forward/kv_cache.h"
#include "forward/cpu/rows.h"
#include "forward/rotary.h"

namespace calque::forward {

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

// q, k and v of consecutive tokens of a sequence as the projections left them: heads side by side.
template <typename T>
struct Projections {
  MatrixView<const T> q_TN;
  MatrixView<const T> k_TN;
  MatrixView<const T> v_TN;
};

// What attention holds beside its inputs and outputs, to be used again.
template <typename T>
struct AttentionBuffers {
  Buffer<T> queries, keys, values, weights;
  Buffer<float> scores, sums;
};

// Causal softmax attention of one sequence: norms of q and k (if any), rotation, scores, softmax
// and sums in fp32; queries and keys after rotation, softmax weights and the result are rounded to
// T, as a bf16 model's own implementations do; what `kv_cache` makes of keys and values is, too.
// Runs on the calling thread.
template <typename T>
class SequenceAttention {
 public:
  // All must outlive it.
  SequenceAttention(const AttentionSpec& spec, const Rotary& rotary, Index length,
                    AttentionBuffers<T>& buffers);

  // Tokens [first, first + rows) of the sequence, each once and in any order.
  void take(Index first, const Projections<T>& in);
  // When all have come.
  void run(MatrixView<T> out_TN);

 private:
  struct Span {
    Index first = 0;
    Index count = 0;
    Index end() const { return first + count; }
  };

  Span keys_of(Span rows) const;
  Index longest_span() const;
  void turn(const T* from, const NormWeight& norm, Index position, T* to);
  void attend_rows(Index head, Span rows);
  MatrixView<T> weights_for(MatrixView<float> scores);
  float cap(MatrixView<float> scores) const;
  float soften_visible(Index position, Span keys, const float* scores, float scale, T* weights);
  void write_rows(Index head, Span rows, MatrixView<T> out_TN) const;

  const AttentionSpec& spec_;
  const Rotary& rotary_;
  AttentionBuffers<T>& buffers_;
  Index length_;
  Index group_;          // query heads that share a K/V head
  Index positions_ = 0;  // whose scores are computed at a time
  // Rows ready for products: queries grouped by the K/V head they share, position-major inside a
  // group, so that a range of positions of one group is one matrix.
  MatrixView<T> queries_;  // [kv_heads * length * group, head_dim]
  MatrixView<T> keys_;     // [kv_heads * length, head_dim]
  MatrixView<T> values_;   // [kv_heads * length, head_dim]
  MatrixView<float> sums_;
  std::vector<float> buffer_, turned_;
  std::vector<float> totals_;
};

}  // namespace calque::forward
