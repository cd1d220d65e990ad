#include "mixers/attention/cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

// Positions whose scores are computed at a time.
constexpr Index kFewestPositions = 16;
constexpr Index kMostPositions = 128;

// Everything that a sequence's attention needs of the block.
struct AttentionSettings {
  const model::Attention& spec;
  const Rotary* rotary = nullptr;  // null: no positions
  float scale = 1;                 // scores are multiplied by it
  std::optional<NormWeight> q_norm;
  std::optional<NormWeight> k_norm;
  std::span<const float> sinks_H;  // none: empty
  std::optional<NormWeight> v_norm;
  const KvCacheRounding* kv_cache = nullptr;  // null: keys and values stay as they are
  Index layer = 0;
};

// q, k and v of consecutive tokens of a sequence as the projections left them: heads side by side,
// and in q a head's gate beside it, if there are gates. No k and v where an earlier layer made
// them.
template <typename T>
struct Projections {
  MatrixView<const T> q_TN;
  MatrixView<const T> k_TN;
  MatrixView<const T> v_TN;
};

// Slots of the workspace, in T and in fp32.
template <typename T>
struct AttentionSlots {
  enum : std::size_t { kQueries = Workspace<T>::kOwn, kKeys, kValues, kWeights, kGates };
  enum : std::size_t { kScores, kSums };
};

// Causal softmax attention of one sequence: norms of q and k (if any), rotation, scores, softmax
// and sums in fp32; queries and keys after rotation, softmax weights and the result are rounded to
// T, as a bf16 model's own implementations do; what `kv_cache` makes of keys and values is, too.
// Runs on the calling thread.
template <typename T>
class SequenceAttention {
 public:
  // All must outlive it.
  SequenceAttention(const AttentionSettings& settings, Index length, Workspace<T>& workspace);

  // Tokens [first, first + rows) of the sequence, each once and in any order.
  void take(Index first, const Projections<T>& in);
  // Keys and values of all tokens as attention uses them: from an earlier layer, and for a later
  // one after run().
  void take_kept(MatrixView<const float> keys_TN, MatrixView<const float> values_TN);
  void leave(MatrixView<float> keys_TN, MatrixView<float> values_TN) const;
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
  // A row's heads in fp32, normed, to heads_.
  void take_heads(const T* row, Index heads, Index step, const std::optional<NormWeight>& norm);
  void turn(const float* head, Index position, float factor, T* to);
  void take_values(const T* row, Index position);
  void attend_rows(Index head, Span rows);
  MatrixView<T> weights_for(MatrixView<float> scores);
  float cap(MatrixView<float> scores) const;
  float sink_of(Index head) const;
  float soften_visible(Index position, Span keys, const float* scores, float scale, float sink,
                       T* weights);
  void write_rows(Index head, Span rows, MatrixView<T> out_TN) const;

  using Slots = AttentionSlots<T>;

  const AttentionSettings& settings_;
  const model::Attention& spec_;
  Workspace<T>& workspace_;
  Index length_;
  Index group_;          // query heads that share a K/V head
  Index positions_ = 0;  // their scores are computed at a time
  // Rows ready for products: queries grouped by the K/V head they share, position-major inside a
  // group, so that a range of positions of one group is one matrix.
  MatrixView<T> queries_;  // [kv_heads * length * group, head_dim]
  MatrixView<T> keys_;     // [kv_heads * length, head_dim]
  MatrixView<T> values_;   // [kv_heads * length, head_dim]
  MatrixView<T> gates_;    // [length, heads * head_dim]; empty: none
  MatrixView<float> sums_;
  std::vector<float> heads_, turned_;
  std::vector<float> totals_;
};

template <typename T>
SequenceAttention<T>::SequenceAttention(const AttentionSettings& settings, Index length,
                                        Workspace<T>& workspace)
    : settings_(settings),
      spec_(settings.spec),
      workspace_(workspace),
      length_(length),
      group_(spec_.heads / spec_.kv_heads),
      queries_(workspace.matrix(Slots::kQueries, spec_.heads * length, spec_.head_dim)),
      keys_(workspace.matrix(Slots::kKeys, spec_.kv_heads * length, spec_.head_dim)),
      values_(workspace.matrix(Slots::kValues, spec_.kv_heads * length, spec_.head_dim)),
      heads_(static_cast<std::size_t>(spec_.query_channels())),
      turned_(static_cast<std::size_t>(spec_.head_dim)) {
  using model::Attention;
  const Index fitting =
      std::min(Attention::kScoreRows, Attention::kScoreElements / longest_span()) / group_;
  positions_ =
      std::clamp(fitting / kFewestPositions * kFewestPositions, kFewestPositions, kMostPositions);
  if (spec_.gated) gates_ = workspace.matrix(Slots::kGates, length, spec_.query_channels());
  sums_ = workspace.matrix_f32(Slots::kSums, positions_ * group_, spec_.head_dim);
  const MatrixView<float> widest =
      workspace.matrix_f32(Slots::kScores, positions_ * group_, longest_span());
  weights_for(widest);  // no later request is larger
  totals_.resize(static_cast<std::size_t>(positions_ * group_));
}

template <typename T>
void SequenceAttention<T>::take(Index first, const Projections<T>& in) {
  const Index dim = spec_.head_dim, step = spec_.gated ? 2 * dim : dim;
  for (Index r = 0; r < in.q_TN.rows(); ++r) {
    const Index t = first + r;
    const float factor = spec_.rope ? static_cast<float>(spec_.rope->query_factor(t)) : 1.0f;
    take_heads(in.q_TN.row(r), spec_.heads, step, settings_.q_norm);
    for (Index h = 0; h < spec_.heads; ++h) {
      turn(heads_.data() + h * dim, t, factor,
           queries_.row(((h / group_) * length_ + t) * group_ + h % group_));
      if (spec_.gated) std::copy_n(in.q_TN.row(r) + h * step + dim, dim, gates_.row(t) + h * dim);
    }
    if (!spec_.takes.empty()) continue;
    take_heads(in.k_TN.row(r), spec_.kv_heads, dim, settings_.k_norm);
    for (Index h = 0; h < spec_.kv_heads; ++h)
      turn(heads_.data() + h * dim, t, 1.0f, keys_.row(h * length_ + t));
    take_values(in.v_TN.row(r), t);
  }
}

template <typename T>
void SequenceAttention<T>::take_values(const T* row, Index position) {
  const Index dim = spec_.head_dim;
  if (settings_.v_norm) take_heads(row, spec_.kv_heads, dim, settings_.v_norm);
  for (Index h = 0; h < spec_.kv_heads; ++h) {
    T* const to = values_.row(h * length_ + position);
    if (settings_.v_norm)
      for (Index i = 0; i < dim; ++i) store(heads_.data()[h * dim + i], to[i]);
    else
      std::copy_n(row + h * dim, dim, to);
  }
}

// Rows of values that were rounded to T are exact in fp32, and come back as they were.
template <typename T>
void SequenceAttention<T>::take_kept(MatrixView<const float> keys_TN,
                                     MatrixView<const float> values_TN) {
  const Index dim = spec_.head_dim;
  for (Index h = 0; h < spec_.kv_heads; ++h)
    for (Index t = 0; t < length_; ++t)
      for (Index i = 0; i < dim; ++i) {
        store(keys_TN(t, h * dim + i), keys_(h * length_ + t, i));
        store(values_TN(t, h * dim + i), values_(h * length_ + t, i));
      }
}

template <typename T>
void SequenceAttention<T>::leave(MatrixView<float> keys_TN, MatrixView<float> values_TN) const {
  const Index dim = spec_.head_dim;
  for (Index h = 0; h < spec_.kv_heads; ++h)
    for (Index t = 0; t < length_; ++t)
      for (Index i = 0; i < dim; ++i) {
        keys_TN(t, h * dim + i) = widened(keys_(h * length_ + t, i));
        values_TN(t, h * dim + i) = widened(values_(h * length_ + t, i));
      }
}

template <typename T>
void through_cache(MatrixView<T> rows_SD, const KvCacheRounding& cache,
                   void (KvCacheRounding::*round)(const KvRows&) const, Index layer, Index heads) {
  if constexpr (std::is_same_v<T, float>) {
    (cache.*round)({.layer = layer, .heads = heads, .rows_SD = rows_SD});
  } else {
    Matrix<float> wide_SD = Matrix<float>::uninitialized(rows_SD.rows(), rows_SD.cols());
    loops_of<T>().widen(rows_SD, wide_SD);
    (cache.*round)({.layer = layer, .heads = heads, .rows_SD = wide_SD.view()});
    for (Index i = 0; i < wide_SD.size(); ++i) store(wide_SD.data()[i], rows_SD.data()[i]);
  }
}

template <typename T>
void SequenceAttention<T>::run(MatrixView<T> out_TN) {
  if (settings_.kv_cache != nullptr && spec_.takes.empty()) {
    through_cache(keys_, *settings_.kv_cache, &KvCacheRounding::round_keys, settings_.layer,
                  spec_.kv_heads);
    through_cache(values_, *settings_.kv_cache, &KvCacheRounding::round_values, settings_.layer,
                  spec_.kv_heads);
  }
  for (Index head = 0; head < spec_.kv_heads; ++head)
    for (Index first = 0; first < length_; first += positions_) {
      const Span rows{first, std::min(positions_, length_ - first)};
      attend_rows(head, rows);
      write_rows(head, rows, out_TN);
    }
  if (spec_.gated) loops_of<T>().gate_by_sigmoid(gates_, out_TN);
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
void SequenceAttention<T>::take_heads(const T* row, Index heads, Index step,
                                      const std::optional<NormWeight>& norm) {
  const Index dim = spec_.head_dim, channels = heads * dim;
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < dim; ++i) heads_.data()[h * dim + i] = widened(row[h * step + i]);
  if (!norm) return;
  const Index normed = spec_.whole_norms ? channels : spec_.head_dim;
  const MatrixView<float> rows(heads_.data(), channels / normed, normed);
  loops().of_float.rms_norm(rows, *norm, rows);
}

template <typename T>
void SequenceAttention<T>::turn(const float* head, Index position, float factor, T* to) {
  if (settings_.rotary != nullptr) {
    settings_.rotary->turn(head, position, turned_.data());
    head = turned_.data();
  }
  for (Index i = 0; i < spec_.head_dim; ++i) store(factor * head[i], to[i]);
}

// Leaves the sums of `rows`, not yet divided by totals_, in sums_.
template <typename T>
void SequenceAttention<T>::attend_rows(Index head, Span rows) {
  const Span keys = keys_of(rows);
  const Index height = rows.count * group_;
  const MatrixView<float> scores = workspace_.matrix_f32(Slots::kScores, height, keys.count);
  const Index first_key = head * length_ + keys.first;
  multiply_transposed(
      MatrixView<const T>(queries_.rows((head * length_ + rows.first) * group_, height)),
      MatrixView<const T>(keys_.rows(first_key, keys.count)), scores);
  const float scale = cap(scores);
  const MatrixView<T> weights = weights_for(scores);
  for (Index r = 0; r < height; ++r)
    totals_[static_cast<std::size_t>(r)] =
        soften_visible(rows.first + r / group_, keys, scores.row(r), scale,
                       sink_of(head * group_ + r % group_), weights.row(r));
  multiply<T>(weights, MatrixView<const T>(values_.rows(first_key, keys.count)),
              sums_.rows(0, height));
}

// In fp32 they replace the scores.
template <typename T>
MatrixView<T> SequenceAttention<T>::weights_for(MatrixView<float> scores) {
  if constexpr (std::is_same_v<T, float>)
    return scores;
  else
    return workspace_.matrix(Slots::kWeights, scores.rows(), scores.cols());
}

// Returns the factor that the scores are still to be multiplied by.
template <typename T>
float SequenceAttention<T>::cap(MatrixView<float> scores) const {
  if (spec_.softcap == 0) return settings_.scale;
  loops().cap_scores(settings_.scale, static_cast<float>(spec_.softcap), scores);
  return 1.0f;
}

template <typename T>
float SequenceAttention<T>::sink_of(Index head) const {
  if (settings_.sinks_H.empty()) return -std::numeric_limits<float>::infinity();
  return settings_.sinks_H[static_cast<std::size_t>(head)];
}

// Keys after a position, and those that have left its window, weigh nothing.
template <typename T>
float SequenceAttention<T>::soften_visible(Index position, Span keys, const float* scores,
                                           float scale, float sink, T* weights) {
  const Index gone =
      spec_.window == 0 ? 0 : std::max<Index>(0, position - spec_.window + 1 - keys.first);
  const Index end = position + 1 - keys.first;
  const float total = loops_of<T>().soften(scores + gone, end - gone, scale, sink, weights + gone);
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

template <typename T>
class CpuAttention : public TwoSiteMixer<T> {
 public:
  explicit CpuAttention(const CpuHalf<T>& half)
      : TwoSiteMixer<T>(half),
        spec_(half.template mixer<model::Attention>()),
        rotary_(spec_.rope ? &half.states.rotary(*spec_.rope, spec_.head_dim) : nullptr) {
    if (!spec_.leaves.empty() && half.keeps != nullptr) {
      left_keys_ = &half.keeps->kept(spec_.keeps()[0]);
      left_values_ = &half.keeps->kept(spec_.keeps()[1]);
    }
    if (spec_.takes.empty()) return;
    taken_keys_ = &half.states.all_kept().at(spec_.taken()[0].name);
    taken_values_ = &half.states.all_kept().at(spec_.taken()[1].name);
  }

  void add(Index sequence, MatrixView<const float> hidden_TH,
           MatrixView<float> sum_TH) const override {
    const Lease workspace(this->half_.workspaces);
    const MatrixView<T> inner_TN =
        workspace->matrix(Workspace<T>::kInner, hidden_TH.rows(), this->inner_channels());
    inner(sequence, hidden_TH, inner_TN);
    this->add_inner(inner_TN, sum_TH);
  }

 private:
  using typename TwoSiteMixer<T>::Lease;

  void inner(Index sequence, MatrixView<const float> hidden_TH,
             MatrixView<T> out_TN) const override {
    const Lease workspace(this->half_.workspaces);
    const AttentionSettings settings = this->settings();
    SequenceAttention<T> attention(settings, hidden_TH.rows(), *workspace);
    each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
      const MatrixView<T> normed_TH =
          workspace->matrix(Workspace<T>::kNormed, count, hidden_TH.cols());
      this->norm(hidden_TH.rows(first, count), normed_TH);
      attention.take(first, project(normed_TH, *workspace));
    });
    if (taken_keys_ != nullptr) {
      attention.take_kept(taken_keys_->of(sequence), taken_values_->of(sequence));
      release(*taken_keys_, *taken_values_, sequence);
    }
    attention.run(out_TN);
    if (left_keys_ != nullptr) {
      attention.leave(left_keys_->of(sequence), left_values_->of(sequence));
      release(*left_keys_, *left_values_, sequence);
    }
  }

  static void release(const SequenceRows<float>& keys, const SequenceRows<float>& values,
                      Index sequence) {
    keys.release(sequence);
    values.release(sequence);
  }

  AttentionSettings settings() const {
    AttentionSettings settings{.spec = spec_, .rotary = rotary_};
    settings.scale = spec_.query_scale > 0 ? static_cast<float>(spec_.query_scale)
                                           : 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
    if (spec_.q_norm) settings.q_norm = this->norm_of(*spec_.q_norm);
    if (spec_.k_norm) settings.k_norm = this->norm_of(*spec_.k_norm);
    if (spec_.sinks) settings.sinks_H = this->weight(*spec_.sinks).row_span(0);
    if (spec_.v_norm) settings.v_norm = this->norm_of(*spec_.v_norm);
    settings.kv_cache = this->half_.kv_cache;
    settings.layer = this->half_.block.layer;
    return settings;
  }

  Projections<T> project(MatrixView<const T> normed_TH, Workspace<T>& workspace) const {
    const std::vector<PreparedLinear<T>>& linears = this->linears(model::Attention::kIn);
    const auto run = [&](const PreparedLinear<T>& linear, std::size_t slot) {
      const MatrixView<T> out = workspace.matrix(slot, normed_TH.rows(), linear.out_features());
      linear.apply(normed_TH, out);
      return MatrixView<const T>(out);
    };
    const MatrixView<const T> fused = run(linears.front(), Workspace<T>::kLeft);
    if (!spec_.takes.empty()) return {fused, {}, {}};
    if (linears.size() > 1) {
      const MatrixView<const T> k_TN = run(linears[1], Workspace<T>::kRight);
      return {fused, k_TN, spec_.values_are_keys ? k_TN : run(linears[2], Workspace<T>::kThird)};
    }
    const Index q = spec_.query_channels(), k = spec_.key_channels();
    return {fused.cols(0, q), fused.cols(q, k), fused.cols(q + k, k)};
  }

  const model::Attention& spec_;
  const Rotary* rotary_;  // null: no positions
  // Rows that later layers use, and an earlier layer's; null: none.
  SequenceRows<float>* left_keys_ = nullptr;
  SequenceRows<float>* left_values_ = nullptr;
  const SequenceRows<float>* taken_keys_ = nullptr;
  const SequenceRows<float>* taken_values_ = nullptr;
};

}  // namespace

template <typename T>
std::unique_ptr<CpuMixer<T>> make_attention(const CpuHalf<T>& half) {
  return std::make_unique<CpuAttention<T>>(half);
}
template std::unique_ptr<CpuMixer<float>> make_attention(const CpuHalf<float>&);
template std::unique_ptr<CpuMixer<BFloat16>> make_attention(const CpuHalf<BFloat16>&);

}  // namespace calque::forward
