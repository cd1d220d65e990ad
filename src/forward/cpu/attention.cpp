#include "forward/cpu/attention.h"

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>
#include <vector>

#include "calque/forward/cost.h"
#include "forward/cpu/activation.h"
#include "forward/cpu/products.h"
#include "forward/cpu/rows.h"

namespace calque::forward {
namespace {

// Positions of a product at a time.
constexpr Index kFewestPositions = 16;
constexpr Index kMostPositions = 128;

// Four vector registers of independent sums, or largest values: as many as hide the instructions'
// latency.
constexpr Index kLanes = 64;
using Lanes = std::array<float, kLanes>;

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// What is left of `values` after whole lanes, and then the lowest number.
Lanes padded(const float* values, Index count) {
  Lanes lanes;
  lanes.fill(kLowest);
  std::copy_n(values, count, lanes.begin());
  return lanes;
}

void keep_largest(const float* values, Lanes& largest) {
  for (std::size_t j = 0; j < kLanes; ++j)
    largest[j] = values[j] > largest[j] ? values[j] : largest[j];
}

float largest_of(const float* values, Index count) {
  Lanes largest;
  largest.fill(kLowest);
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes) keep_largest(values + i, largest);
  keep_largest(padded(values + whole, count - whole).data(), largest);
  return *std::max_element(largest.begin(), largest.end());
}

// weights = 2^(factor score + offset), rounded to T, and added to `sums`.
template <typename T>
void soften_lanes(const float* scores, float factor, float offset, T* weights, Lanes& sums) {
  for (std::size_t j = 0; j < kLanes; ++j) {
    T weight;
    store(power_of_two(multiply_add(scores[j], factor, offset)), weight);
    weights[j] = weight;
    sums[j] += widened(weight);
  }
}

// weights = e^(scale (score - largest score)), rounded to T; returns the sum of the rounded ones,
// so that divided by it they add up to one. `weights` may be `scores`.
template <typename T>
float soften(const float* scores, Index count, float scale, T* weights) {
  const float factor = scale * kLog2E;
  const float offset = -factor * largest_of(scores, count);
  Lanes sums{};
  const Index whole = count - count % kLanes;
  for (Index i = 0; i < whole; i += kLanes)
    soften_lanes(scores + i, factor, offset, weights + i, sums);
  std::array<T, kLanes> rest;
  Lanes of_rest{};
  soften_lanes(padded(scores + whole, count - whole).data(), factor, offset, rest.data(), of_rest);
  std::copy_n(rest.begin(), count - whole, weights + whole);
  for (Index j = 0; j < count - whole; ++j)
    sums[static_cast<std::size_t>(j)] += of_rest[static_cast<std::size_t>(j)];
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

}  // namespace

template <typename T>
SequenceAttention<T>::SequenceAttention(const AttentionSpec& spec, const Rotary& rotary,
                                        Index length, AttentionBuffers<T>& buffers)
    : spec_(spec),
      rotary_(rotary),
      buffers_(buffers),
      length_(length),
      group_(spec.heads / spec.kv_heads),
      queries_(buffers.queries.matrix(spec.heads * length, spec.head_dim)),
      keys_(buffers.keys.matrix(spec.kv_heads * length, spec.head_dim)),
      values_(buffers.values.matrix(spec.kv_heads * length, spec.head_dim)),
      buffer_(static_cast<std::size_t>(spec.head_dim)),
      turned_(static_cast<std::size_t>(spec.head_dim)) {
  const Index fitting = std::min(kScoreRows, kScoreElements / longest_span()) / group_;
  positions_ =
      std::clamp(fitting / kFewestPositions * kFewestPositions, kFewestPositions, kMostPositions);
  sums_ = buffers.sums.matrix(positions_ * group_, spec.head_dim);
  const MatrixView<float> widest = buffers.scores.matrix(positions_ * group_, longest_span());
  weights_for(widest);  // no later request is larger
  totals_.resize(static_cast<std::size_t>(positions_ * group_));
}

template <typename T>
void SequenceAttention<T>::take(Index first, const Projections<T>& in) {
  const Index dim = spec_.head_dim;
  for (Index r = 0; r < in.q_TN.rows(); ++r) {
    const Index t = first + r;
    for (Index h = 0; h < spec_.heads; ++h)
      turn(in.q_TN.row(r) + h * dim, spec_.q_norm, t,
           queries_.row(((h / group_) * length_ + t) * group_ + h % group_));
    for (Index h = 0; h < spec_.kv_heads; ++h) {
      turn(in.k_TN.row(r) + h * dim, spec_.k_norm, t, keys_.row(h * length_ + t));
      std::copy_n(in.v_TN.row(r) + h * dim, dim, values_.row(h * length_ + t));
    }
  }
}

template <typename T>
void through_cache(MatrixView<T> rows_SD, const KvCacheRounding& cache,
                   void (KvCacheRounding::*round)(MatrixView<float>) const) {
  if constexpr (std::is_same_v<T, float>) {
    (cache.*round)(rows_SD);
  } else {
    Matrix<float> wide_SD = Matrix<float>::uninitialized(rows_SD.rows(), rows_SD.cols());
    widen_rows<T>(rows_SD, wide_SD);
    (cache.*round)(wide_SD.view());
    for (Index i = 0; i < wide_SD.size(); ++i) store(wide_SD.data()[i], rows_SD.data()[i]);
  }
}

template <typename T>
void SequenceAttention<T>::run(MatrixView<T> out_TN) {
  if (spec_.kv_cache != nullptr) {
    through_cache(keys_, *spec_.kv_cache, &KvCacheRounding::round_keys);
    through_cache(values_, *spec_.kv_cache, &KvCacheRounding::round_values);
  }
  for (Index head = 0; head < spec_.kv_heads; ++head)
    for (Index first = 0; first < length_; first += positions_) {
      const Span rows{first, std::min(positions_, length_ - first)};
      attend_rows(head, rows);
      write_rows(head, rows, out_TN);
    }
}

// Keys that `rows` can see.
template <typename T>
auto SequenceAttention<T>::keys_of(Span rows) const -> Span {
  const Index first = spec_.window == 0 ? 0 : std::max<Index>(0, rows.first - spec_.window + 1);
  return {first, rows.end() - first};
}

template <typename T>
Index SequenceAttention<T>::longest_span() const {
  return spec_.window == 0 ? length_ : std::min(length_, spec_.window + kMostPositions);
}

template <typename T>
void SequenceAttention<T>::turn(const T* from, const NormWeight& norm, Index position, T* to) {
  for (Index i = 0; i < spec_.head_dim; ++i) buffer_.data()[i] = widened(from[i]);
  if (!norm.weight_1N.empty()) rms_norm(buffer_.data(), norm, spec_.head_dim, buffer_.data());
  rotary_.turn(buffer_.data(), position, turned_.data());
  for (Index i = 0; i < spec_.head_dim; ++i) store(turned_.data()[i], to[i]);
}

// Leaves the sums of `rows`, not yet divided by totals_, in sums_.
template <typename T>
void SequenceAttention<T>::attend_rows(Index head, Span rows) {
  const Span keys = keys_of(rows);
  const Index height = rows.count * group_;
  const MatrixView<float> scores = buffers_.scores.matrix(height, keys.count);
  const Index first_key = head * length_ + keys.first;
  multiply_transposed(
      MatrixView<const T>(queries_.rows((head * length_ + rows.first) * group_, height)),
      MatrixView<const T>(keys_.rows(first_key, keys.count)), scores);
  const float scale = cap(scores);
  const MatrixView<T> weights = weights_for(scores);
  for (Index r = 0; r < height; ++r)
    totals_[static_cast<std::size_t>(r)] =
        soften_visible(rows.first + r / group_, keys, scores.row(r), scale, weights.row(r));
  multiply<T>(weights, MatrixView<const T>(values_.rows(first_key, keys.count)),
              sums_.rows(0, height));
}

// In fp32 they replace the scores.
template <typename T>
MatrixView<T> SequenceAttention<T>::weights_for(MatrixView<float> scores) {
  if constexpr (std::is_same_v<T, float>)
    return scores;
  else
    return buffers_.weights.matrix(scores.rows(), scores.cols());
}

// What the scores are still to be multiplied by.
template <typename T>
float SequenceAttention<T>::cap(MatrixView<float> scores) const {
  if (spec_.softcap == 0) return spec_.scale;
  cap_scores(spec_.scale, spec_.softcap, scores);
  return 1.0f;
}

// Keys after a position, and those that have left its window, weigh nothing.
template <typename T>
float SequenceAttention<T>::soften_visible(Index position, Span keys, const float* scores,
                                           float scale, T* weights) {
  const Index gone =
      spec_.window == 0 ? 0 : std::max<Index>(0, position - spec_.window + 1 - keys.first);
  const Index end = position + 1 - keys.first;
  const float total = soften(scores + gone, end - gone, scale, weights + gone);
  std::fill(weights, weights + gone, T{});
  std::fill(weights + end, weights + keys.count, T{});
  return total;
}

template <typename T>
void SequenceAttention<T>::write_rows(Index head, Span rows, MatrixView<T> out_TN) const {
  for (Index r = 0; r < rows.count * group_; ++r) {
    T* const out =
        out_TN.row(rows.first + r / group_) + (head * group_ + r % group_) * spec_.head_dim;
    const float inverse = 1.0f / totals_[static_cast<std::size_t>(r)];
    const float* const sums = sums_.row(r);
    for (Index i = 0; i < spec_.head_dim; ++i) store(sums[i] * inverse, out[i]);
  }
}

template class SequenceAttention<float>;
template class SequenceAttention<BFloat16>;

}  // namespace calque::forward
