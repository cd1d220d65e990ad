#include "model/torch/attention.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "model/torch/gemm.h"
#include "model/torch/rows.h"
#include "model/torch/tensors.h"
#include "model/torch/vector_math.h"

namespace calque::model {
namespace {

// Scores computed at a time: 1.5 MiB stay in a core's second-level cache.
constexpr Index kScoreElements = 393'216;
// Rows of a product (positions times heads that share their keys), and positions, at a time: enough
// rows for an efficient product, few enough that little is computed above the diagonal.
constexpr Index kRows = 192;
constexpr Index kFewestPositions = 16;
constexpr Index kMostPositions = 128;

struct Span {
  Index first = 0;
  Index count = 0;
  Index end() const { return first + count; }
};

// Rows ready for products: queries grouped by the K/V head they share, position-major inside a
// group, so that a range of positions of one group is one matrix.
template <typename T>
struct HeadMajor {
  Matrix<T> queries;  // [kv_heads * T * group, head_dim]
  Matrix<T> keys;     // [kv_heads * T, head_dim]
  Matrix<T> values;   // [kv_heads * T, head_dim]
};

// Lane i holds the largest of the values i, i + 16, ...: one vector register.
float largest_of(const float* values, Index count) {
  constexpr Index kLanes = 16;
  std::array<float, kLanes> largest;
  largest.fill(-std::numeric_limits<float>::infinity());
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes)
    for (Index j = 0; j < kLanes; ++j) {
      float& lane = largest[static_cast<std::size_t>(j)];
      lane = values[i + j] > lane ? values[i + j] : lane;
    }
  for (Index i = whole; i < count; ++i) largest[0] = std::max(largest[0], values[i]);
  return *std::max_element(largest.begin(), largest.end());
}

template <typename T>
float sum_of(const T* values, Index count) {
  constexpr Index kLanes = 16;
  std::array<float, kLanes> partial{};
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes)
    for (Index j = 0; j < kLanes; ++j)
      partial[static_cast<std::size_t>(j)] += widened(values[i + j]);
  for (Index i = whole; i < count; ++i) partial[0] += widened(values[i]);
  float sum = 0;
  for (const float lane : partial) sum += lane;
  return sum;
}

// weights = e^(scale (score - largest score)), rounded to T; returns the sum of the rounded ones,
// so that divided by it they add up to one. `weights` may be `scores`.
template <typename T>
float soften(const float* scores, Index count, float scale, T* weights) {
  const float largest = largest_of(scores, count);
  for (Index i = 0; i < count; ++i) store(exponential(scale * (scores[i] - largest)), weights[i]);
  return sum_of(weights, count);
}

template <typename T>
class SequenceAttention {
 public:
  SequenceAttention(const AttentionSpec& spec, const Rotary& rotary, Index length)
      : spec_(spec),
        rotary_(rotary),
        length_(length),
        group_(spec.heads / spec.kv_heads),
        buffer_(static_cast<std::size_t>(spec.head_dim)),
        turned_(static_cast<std::size_t>(spec.head_dim)) {
    const Index fitting = std::min(kRows, kScoreElements / longest_span()) / group_;
    positions_ =
        std::clamp(fitting / kFewestPositions * kFewestPositions, kFewestPositions, kMostPositions);
    const Index height = positions_ * group_;
    scores_ = Matrix<float>::uninitialized(1, height * longest_span());
    if constexpr (!std::is_same_v<T, float>)
      weights_ = Matrix<T>::uninitialized(1, height * longest_span());
    sums_ = Matrix<float>::uninitialized(height, spec.head_dim);
    totals_.resize(static_cast<std::size_t>(height));
  }

  void run(const Projections<T>& in, MatrixView<T> out_TN) {
    HeadMajor<T> heads = split(in);
    if (spec_.kv_cache != nullptr) {
      through_cache(heads.keys, &KvCacheRounding::round_keys);
      through_cache(heads.values, &KvCacheRounding::round_values);
    }
    for (Index head = 0; head < spec_.kv_heads; ++head)
      for (Index first = 0; first < length_; first += positions_) {
        const Span rows{first, std::min(positions_, length_ - first)};
        attend_rows(heads, head, rows);
        write_rows(head, rows, out_TN);
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

  HeadMajor<T> split(const Projections<T>& in) {
    const Index dim = spec_.head_dim;
    HeadMajor<T> heads{Matrix<T>::uninitialized(spec_.heads * length_, dim),
                       Matrix<T>::uninitialized(spec_.kv_heads * length_, dim),
                       Matrix<T>::uninitialized(spec_.kv_heads * length_, dim)};
    for (Index t = 0; t < length_; ++t) {
      for (Index h = 0; h < spec_.heads; ++h)
        turn(in.q_TN.row(t) + h * dim, spec_.q_norm, t,
             heads.queries.row(((h / group_) * length_ + t) * group_ + h % group_));
      for (Index h = 0; h < spec_.kv_heads; ++h) {
        turn(in.k_TN.row(t) + h * dim, spec_.k_norm, t, heads.keys.row(h * length_ + t));
        std::copy_n(in.v_TN.row(t) + h * dim, dim, heads.values.row(h * length_ + t));
      }
    }
    return heads;
  }

  using RoundRows = void (KvCacheRounding::*)(MatrixView<float>) const;

  void through_cache(Matrix<T>& rows_SD, RoundRows round) const {
    if constexpr (std::is_same_v<T, float>) {
      (spec_.kv_cache->*round)(rows_SD.view());
    } else {
      Matrix<float> wide_SD = Matrix<float>::uninitialized(rows_SD.rows(), rows_SD.cols());
      widen_rows<T>(rows_SD.view(), wide_SD);
      (spec_.kv_cache->*round)(wide_SD.view());
      for (Index i = 0; i < wide_SD.size(); ++i) store(wide_SD.data()[i], rows_SD.data()[i]);
    }
  }

  void turn(const T* from, const NormWeight& norm, Index position, T* to) {
    for (Index i = 0; i < spec_.head_dim; ++i) buffer_.data()[i] = widened(from[i]);
    if (!norm.weight_1N.empty()) rms_norm(buffer_.data(), norm, spec_.head_dim, buffer_.data());
    rotary_.turn(buffer_.data(), position, turned_.data());
    for (Index i = 0; i < spec_.head_dim; ++i) store(turned_.data()[i], to[i]);
  }

  // Leaves the sums of `rows`, not yet divided by totals_, in sums_.
  void attend_rows(const HeadMajor<T>& heads, Index head, Span rows) {
    const Span keys = keys_of(rows);
    const Index height = rows.count * group_;
    const MatrixView<float> scores(scores_.data(), height, keys.count);
    const Index first_key = head * length_ + keys.first;
    multiply_transposed(heads.queries.view().rows((head * length_ + rows.first) * group_, height),
                        heads.keys.view().rows(first_key, keys.count), scores);
    const float scale = cap(scores);
    const MatrixView<T> weights = weights_for(scores);
    for (Index r = 0; r < height; ++r)
      totals_[static_cast<std::size_t>(r)] =
          soften_visible(rows.first + r / group_, keys, scores.row(r), scale, weights.row(r));
    multiply(MatrixView<const T>(weights), heads.values.view().rows(first_key, keys.count),
             sums_.view().rows(0, height));
  }

  MatrixView<T> weights_for(MatrixView<float> scores) {
    if constexpr (std::is_same_v<T, float>)
      return scores;
    else
      return {weights_.data(), scores.rows(), scores.cols()};
  }

  // What the scores are still to be multiplied by.
  float cap(MatrixView<float> scores) const {
    if (spec_.softcap == 0) return spec_.scale;
    at::Tensor tensor = borrow(scores);
    tensor.mul_(spec_.scale / spec_.softcap).tanh_().mul_(spec_.softcap);
    return 1.0f;
  }

  // Keys after a position, and those that have left its window, weigh nothing.
  float soften_visible(Index position, Span keys, const float* scores, float scale, T* weights) {
    const Index gone =
        spec_.window == 0 ? 0 : std::max<Index>(0, position - spec_.window + 1 - keys.first);
    const Index end = position + 1 - keys.first;
    const float total = soften(scores + gone, end - gone, scale, weights + gone);
    std::fill(weights, weights + gone, T{});
    std::fill(weights + end, weights + keys.count, T{});
    return total;
  }

  void write_rows(Index head, Span rows, MatrixView<T> out_TN) {
    for (Index r = 0; r < rows.count * group_; ++r) {
      T* const out =
          out_TN.row(rows.first + r / group_) + (head * group_ + r % group_) * spec_.head_dim;
      const float inverse = 1.0f / totals_[static_cast<std::size_t>(r)];
      const float* const sums = sums_.row(r);
      for (Index i = 0; i < spec_.head_dim; ++i) store(sums[i] * inverse, out[i]);
    }
  }

  const AttentionSpec& spec_;
  const Rotary& rotary_;
  Index length_;
  Index group_;
  Index positions_ = 0;
  std::vector<float> buffer_, turned_;
  Matrix<float> scores_;
  Matrix<T> weights_;  // none in fp32, where they replace the scores
  Matrix<float> sums_;
  std::vector<float> totals_;
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
  SequenceAttention<T>(spec, rotary, out_TN.rows()).run(in, out_TN);
}

template void attend(const AttentionSpec&, const Rotary&, const Projections<float>&,
                     MatrixView<float>);
template void attend(const AttentionSpec&, const Rotary&, const Projections<BFloat16>&,
                     MatrixView<BFloat16>);

}  // namespace calque::model
