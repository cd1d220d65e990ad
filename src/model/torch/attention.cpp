#include "model/torch/attention.h"

#include <ATen/ops/_softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "model/torch/gemm.h"
#include "model/torch/rows.h"
#include "model/torch/tensors.h"

namespace calque::model {
namespace {

// Scores computed at a time: 512 KB, and as much again for the probabilities, stay in a core's
// second-level cache.
constexpr Index kScoreElements = 131'072;
// Positions computed at a time, at least and at most: enough rows for an efficient product, few
// enough that little is computed above the diagonal.
constexpr Index kFewestPositions = 16;
constexpr Index kMostPositions = 64;

struct Span {
  Index first = 0;
  Index count = 0;
  Index end() const { return first + count; }
};

// Rows ready for products: queries grouped by the K/V head they share, position-major inside a
// group, so that a range of positions of one group is one matrix.
struct HeadMajor {
  Matrix<float> queries;  // [kv_heads * T * group, head_dim]
  Matrix<float> keys;     // [kv_heads * T, head_dim]
  Matrix<float> values;   // [kv_heads * T, head_dim]
};

class SequenceAttention {
 public:
  SequenceAttention(const AttentionSpec& spec, const Rotary& rotary, Index length)
      : spec_(spec),
        rotary_(rotary),
        length_(length),
        group_(spec.heads / spec.kv_heads),
        buffer_(static_cast<std::size_t>(spec.head_dim)) {
    positions_ =
        std::clamp(kScoreElements / (longest_span() * group_), kFewestPositions, kMostPositions);
  }

  template <typename T>
  void run(const Projections<T>& in, MatrixView<T> out_TN) {
    const HeadMajor heads = split(in);
    scores_ = new_tensor<float>(1, positions_ * group_ * longest_span());
    probabilities_ = new_tensor<float>(1, positions_ * group_ * longest_span());
    sums_ = Matrix<float>::uninitialized(positions_ * group_, spec_.head_dim);
    for (Index head = 0; head < spec_.kv_heads; ++head)
      for (Index first = 0; first < length_; first += positions_) {
        const Span rows{first, std::min(positions_, length_ - first)};
        attend_rows(heads, head, rows);
        for (Index r = 0; r < rows.count * group_; ++r) {
          T* const out =
              out_TN.row(first + r / group_) + (head * group_ + r % group_) * spec_.head_dim;
          for (Index i = 0; i < spec_.head_dim; ++i) store(sums_(r, i), out[i]);
        }
      }
  }

 private:
  // Keys that `rows` can see.
  Span keys_of(Span rows) const {
    const Index first = spec_.window == 0 ? 0 : std::max<Index>(0, rows.first - spec_.window + 1);
    return {first, rows.end() - first};
  }
  Index longest_span() const {
    return spec_.window == 0 ? length_ : std::min(length_, spec_.window + kMostPositions);
  }

  template <typename T>
  HeadMajor split(const Projections<T>& in) {
    const Index dim = spec_.head_dim;
    HeadMajor heads{Matrix<float>::uninitialized(spec_.heads * length_, dim),
                    Matrix<float>::uninitialized(spec_.kv_heads * length_, dim),
                    Matrix<float>::uninitialized(spec_.kv_heads * length_, dim)};
    for (Index t = 0; t < length_; ++t) {
      for (Index h = 0; h < spec_.heads; ++h) {
        float* const row = heads.queries.row(((h / group_) * length_ + t) * group_ + h % group_);
        turn(in.q_TN.row(t) + h * dim, spec_.q_norm, t, row);
        for (Index i = 0; i < dim; ++i) row[i] *= spec_.scale;
      }
      for (Index h = 0; h < spec_.kv_heads; ++h) {
        turn(in.k_TN.row(t) + h * dim, spec_.k_norm, t, heads.keys.row(h * length_ + t));
        widen(in.v_TN.row(t) + h * dim, heads.values.row(h * length_ + t));
      }
    }
    return heads;
  }

  template <typename T>
  void widen(const T* from, float* to) const {
    for (Index i = 0; i < spec_.head_dim; ++i) to[i] = widened(from[i]);
  }

  template <typename T>
  void turn(const T* from, const NormWeight& norm, Index position, float* to) {
    widen(from, buffer_.data());
    if (!norm.weight_1N.empty()) rms_norm(buffer_.data(), norm, spec_.head_dim, buffer_.data());
    rotary_.turn(buffer_.data(), position, to);
  }

  // Leaves the weighted sums of `rows` in sums_.
  void attend_rows(const HeadMajor& heads, Index head, Span rows) {
    const Span keys = keys_of(rows);
    const Index height = rows.count * group_;
    const MatrixView<float> scores(view_of<float>(scores_).data(), height, keys.count);
    const MatrixView<float> weights(view_of<float>(probabilities_).data(), height, keys.count);
    const Index first_key = head * length_ + keys.first;
    multiply_transposed(heads.queries.view().rows((head * length_ + rows.first) * group_, height),
                        heads.keys.view().rows(first_key, keys.count), false, scores);
    cap(scores);
    mask(rows, keys, scores);
    at::Tensor probabilities = borrow(weights);
    at::_softmax_out(probabilities, borrow(scores), /*dim=*/1, /*half_to_float=*/false);
    multiply(weights, heads.values.view().rows(first_key, keys.count),
             sums_.view().rows(0, height));
  }

  void cap(MatrixView<float> scores) const {
    if (spec_.softcap == 0) return;
    at::Tensor tensor = borrow(scores);
    tensor.div_(spec_.softcap).tanh_().mul_(spec_.softcap);
  }

  // Keys after a position, and those that have left its window.
  void mask(Span rows, Span keys, MatrixView<float> scores) const {
    constexpr float kHidden = -std::numeric_limits<float>::infinity();
    for (Index r = 0; r < scores.rows(); ++r) {
      const Index position = rows.first + r / group_;
      float* const row = scores.row(r);
      std::fill(row + (position + 1 - keys.first), row + keys.count, kHidden);
      const Index gone = spec_.window == 0 ? 0 : position - spec_.window + 1 - keys.first;
      if (gone > 0) std::fill(row, row + gone, kHidden);
    }
  }

  const AttentionSpec& spec_;
  const Rotary& rotary_;
  Index length_;
  Index group_;
  Index positions_ = 0;
  std::vector<float> buffer_;
  at::Tensor scores_;
  at::Tensor probabilities_;
  Matrix<float> sums_;
};

}  // namespace

Rotary::Rotary(const RopeSpec& rope, Index head_dim, Index positions)
    : cosines_(Matrix<float>::uninitialized(positions, head_dim / 2)),
      sines_(Matrix<float>::uninitialized(positions, head_dim / 2)) {
  const std::vector<double> inverse = rope.inverse_frequencies(head_dim, positions);
  for (Index p = 0; p < positions; ++p)
    for (Index i = 0; i < head_dim / 2; ++i) {
      // The angle in fp32, as in transformers: models were trained with its rounding.
      const float angle =
          static_cast<float>(p) * static_cast<float>(inverse[static_cast<std::size_t>(i)]);
      const double scale = rope.attention_factor;
      cosines_(p, i) = static_cast<float>(scale * std::cos(static_cast<double>(angle)));
      sines_(p, i) = static_cast<float>(scale * std::sin(static_cast<double>(angle)));
    }
}

void Rotary::turn(const float* x, Index position, float* out) const {
  const Index half = cosines_.cols();
  const float* const cosine = cosines_.row(position);
  const float* const sine = sines_.row(position);
  for (Index i = 0; i < half; ++i) {
    out[i] = x[i] * cosine[i] - x[half + i] * sine[i];
    out[half + i] = x[half + i] * cosine[i] + x[i] * sine[i];
  }
}

template <typename T>
void attend(const AttentionSpec& spec, const Rotary& rotary, const Projections<T>& in,
            MatrixView<T> out_TN) {
  SequenceAttention(spec, rotary, out_TN.rows()).run(in, out_TN);
}

template void attend(const AttentionSpec&, const Rotary&, const Projections<float>&,
                     MatrixView<float>);
template void attend(const AttentionSpec&, const Rotary&, const Projections<BFloat16>&,
                     MatrixView<BFloat16>);

}  // namespace calque::model
