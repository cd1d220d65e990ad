#include "mixers/delta_net/cpu.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

using model::DeltaNet;
using model::DeltaNetSizes;

// Queries and keys are divided by sqrt(|x|^2 + this).
constexpr double kSmallestSquare = 1e-6;

// Slots of the workspace, in T and in fp32.
template <typename T>
struct DeltaSlots {
  enum : std::size_t { kMixed = Workspace<T>::kOwn, kGate, kRate, kDecay, kJoined, kJoinedSmall };
  enum : std::size_t {
    kStates,
    kConvolved,
    kRows,
    kScores,
    kWeights,
    kReads,
    kChanges,
    kOut,
    kKeys
  };
};

float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }
float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// The tokens of a chunk, for one head: its state decays, and a share `rate` of the difference
// between the token's value and what the state holds under its key is written to it.
struct Steps {
  std::vector<double> decays;  // log, added up from the chunk's first token on
  std::vector<float> rates;
};

// The states of one sequence, and the chunks of tokens that pass through them: fp32, on the calling
// thread. Within a chunk, with G the logarithms of decays added up and S the state before it, the
// changes u of the tokens satisfy
//
//   u_t = beta_t (v_t - e^G_t k_t^T S - sum over j < t of e^(G_t - G_j) (k_t . k_j) u_j),
//
// a triangular system; then y_t = e^G_t q_t^T S + sum over j <= t of e^(G_t - G_j) (q_t . k_j) u_j,
// and S becomes e^G_C S + sum over j of e^(G_C - G_j) k_j u_j^T.
template <typename T>
class DeltaStates {
 public:
  DeltaStates(const DeltaNet& spec, Workspace<T>& workspace);

  // Takes a key head of the next `count` tokens: rows of q and k as the convolution left them.
  void take_keys(MatrixView<const float> q_CD, MatrixView<const float> k_CD);
  // Passes their values through value head `head`; returns y, valid until the next call.
  MatrixView<const float> pass(Index head, const Steps& steps, MatrixView<const float> v_CE);

 private:
  using Slots = DeltaSlots<T>;

  MatrixView<float> state(Index head) {
    return states_.rows(head * sizes_.key_dim, sizes_.key_dim);
  }

  const DeltaNetSizes& sizes_;
  Workspace<T>& workspace_;
  MatrixView<float> states_;  // [value_heads * key_dim, value_dim]
  // Factors that make lengths 1 of what a norm leaves, and of queries 1 / sqrt(key_dim).
  std::vector<float> query_factors_, key_factors_;
  Index count_ = 0;
  MatrixView<float> rows_;    // the chunk's queries above its keys, [2 count, key_dim]
  MatrixView<float> scores_;  // their products with the keys, [2 count, count]
};

template <typename T>
DeltaStates<T>::DeltaStates(const DeltaNet& spec, Workspace<T>& workspace)
    : sizes_(spec.sizes),
      workspace_(workspace),
      states_(workspace.matrix_f32(Slots::kStates, sizes_.value_heads * sizes_.key_dim,
                                   sizes_.value_dim)) {
  std::fill_n(states_.data(), states_.size(), 0.0f);
  const auto dim = static_cast<double>(sizes_.key_dim);
  key_factors_.assign(static_cast<std::size_t>(sizes_.key_dim),
                      static_cast<float>(1 / std::sqrt(dim)));
  query_factors_.assign(static_cast<std::size_t>(sizes_.key_dim), static_cast<float>(1 / dim));
}

// A row divided by its length is sqrt(dim) times smaller than divided by its root mean square.
template <typename T>
void DeltaStates<T>::take_keys(MatrixView<const float> q_CD, MatrixView<const float> k_CD) {
  count_ = q_CD.rows();
  const Index dim = sizes_.key_dim;
  rows_ = workspace_.matrix_f32(Slots::kRows, 2 * count_, dim);
  const auto eps = static_cast<float>(kSmallestSquare / static_cast<double>(dim));
  const auto norm = [&](MatrixView<const float> from, const std::vector<float>& factors,
                        MatrixView<float> to) {
    loops().of_float.rms_norm(from, {{factors.data(), 1, dim}, 0.0f, eps}, to);
  };
  norm(q_CD, query_factors_, rows_.rows(0, count_));
  norm(k_CD, key_factors_, rows_.rows(count_, count_));
  scores_ = workspace_.matrix_f32(Slots::kScores, 2 * count_, count_);
  multiply_transposed(MatrixView<const float>(rows_),
                      MatrixView<const float>(rows_.rows(count_, count_)), scores_);
}

template <typename T>
MatrixView<const float> DeltaStates<T>::pass(Index head, const Steps& steps,
                                             MatrixView<const float> v_CE) {
  const Index values = sizes_.value_dim;
  const MatrixView<float> weights = workspace_.matrix_f32(Slots::kWeights, 2 * count_, count_);
  loops().weigh_scores(scores_, steps.decays.data(), steps.rates.data(), weights);
  const MatrixView<float> reads = workspace_.matrix_f32(Slots::kReads, 2 * count_, values);
  multiply<float>(rows_, state(head), reads);
  const MatrixView<float> changes = workspace_.matrix_f32(Slots::kChanges, count_, values);
  for (Index t = 0; t < count_; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const auto decay = static_cast<float>(std::exp(steps.decays[at]));
    const float rate = steps.rates[at];
    float* const query_read = reads.row(t);
    const float* const key_read = reads.row(count_ + t);
    const float* const value = v_CE.row(t);
    float* const change = changes.row(t);
    for (Index i = 0; i < values; ++i) {
      change[i] = rate * (value[i] - decay * key_read[i]);
      query_read[i] *= decay;
    }
  }
  loops().substitute(weights.rows(count_, count_), changes);
  const MatrixView<float> out = workspace_.matrix_f32(Slots::kOut, count_, values);
  multiply<float>(weights.rows(0, count_), changes, out);
  for (Index t = 0; t < count_; ++t)
    for (Index i = 0; i < values; ++i) out(t, i) += reads(t, i);

  const MatrixView<float> keys = workspace_.matrix_f32(Slots::kKeys, count_, sizes_.key_dim);
  const double whole = steps.decays[static_cast<std::size_t>(count_ - 1)];
  for (Index t = 0; t < count_; ++t) {
    const auto decay =
        static_cast<float>(std::exp(whole - steps.decays[static_cast<std::size_t>(t)]));
    const float* const key = rows_.row(count_ + t);
    for (Index i = 0; i < sizes_.key_dim; ++i) keys(t, i) = decay * key[i];
  }
  add_product(MatrixView<const float>(keys), MatrixView<const float>(changes),
              static_cast<float>(std::exp(whole)), state(head));
  return out;
}

template <typename T>
class CpuDeltaNet : public TwoSiteMixer<T> {
 public:
  explicit CpuDeltaNet(const CpuHalf<T>& half)
      : TwoSiteMixer<T>(half), spec_(half.template mixer<DeltaNet>()), sizes_(spec_.sizes) {}

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
  using Slots = DeltaSlots<T>;

  // Some rows as the linears leave them. `mixed_SN` begins with the rows before them that the
  // filters still see.
  struct Projections {
    MatrixView<T> mixed_SN;
    MatrixView<T> gate_TN;   // z
    MatrixView<T> rate_TV;   // b
    MatrixView<T> decay_TV;  // a
  };

  void inner(Index, MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const override {
    const Lease workspace(this->half_.workspaces);
    const Matrix<float> taps_JN = taps();
    const Index before = sizes_.kernel - 1, mixed = sizes_.mixed_channels();
    const MatrixView<T> history =
        workspace->matrix(Slots::kMixed, before + std::min(kChunkRows, hidden_TH.rows()), mixed);
    std::fill_n(history.data(), before * mixed, T{});
    DeltaStates<T> states(spec_, *workspace);
    each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
      const MatrixView<T> normed_TH =
          workspace->matrix(Workspace<T>::kNormed, count, hidden_TH.cols());
      this->norm(hidden_TH.rows(first, count), normed_TH);
      const Projections made = project(normed_TH, history.rows(0, before + count), *workspace);
      const MatrixView<float> convolved_TN = workspace->matrix_f32(Slots::kConvolved, count, mixed);
      loops_of<T>().convolve(made.mixed_SN, taps_JN, convolved_TN);
      // The last rows come before the next chunk's; a shorter chunk is the sequence's last.
      if (count >= before) std::copy_n(history.row(count), before * mixed, history.row(0));
      for (Index at = 0; at < count; at += DeltaNet::kChunk)
        pass_chunk(at, std::min(DeltaNet::kChunk, count - at), convolved_TN, made, states,
                   out_TN.rows(first, count));
    });
  }

  // The filters, tap by tap.
  Matrix<float> taps() const {
    const MatrixView<const float> filters_NJ = this->weight(spec_.convolution);
    Matrix<float> taps_JN = Matrix<float>::uninitialized(filters_NJ.cols(), filters_NJ.rows());
    for (Index j = 0; j < taps_JN.rows(); ++j)
      for (Index n = 0; n < taps_JN.cols(); ++n) taps_JN(j, n) = filters_NJ(n, j);
    return taps_JN;
  }

  Projections project(MatrixView<const T> normed_TH, MatrixView<T> mixed_SN,
                      Workspace<T>& workspace) const {
    const Index rows = normed_TH.rows(), before = sizes_.kernel - 1;
    const Projections made{mixed_SN, workspace.matrix(Slots::kGate, rows, sizes_.value_channels()),
                           workspace.matrix(Slots::kRate, rows, sizes_.value_heads),
                           workspace.matrix(Slots::kDecay, rows, sizes_.value_heads)};
    const std::vector<PreparedLinear<T>>& linears = this->linears(DeltaNet::kIn);
    const MatrixView<T> mixed_TN = mixed_SN.rows(before, rows);
    if (!spec_.by_key_head) {
      const MatrixView<T> outs[] = {mixed_TN, made.gate_TN, made.rate_TV, made.decay_TV};
      for (std::size_t i = 0; i < linears.size(); ++i) linears[i].apply(normed_TH, outs[i]);
      return made;
    }
    const auto joined = [&](std::size_t i, std::size_t slot) {
      const MatrixView<T> out = workspace.matrix(slot, rows, linears[i].out_features());
      linears[i].apply(normed_TH, out);
      return out;
    };
    const MatrixView<T> large = joined(0, Slots::kJoined), small = joined(1, Slots::kJoinedSmall);
    for (Index t = 0; t < rows; ++t) {
      take_apart_large(large.row(t), mixed_TN.row(t), made.gate_TN.row(t));
      take_apart_small(small.row(t), made.rate_TV.row(t), made.decay_TV.row(t));
    }
    return made;
  }

  // A key head's q, k, v, z to all q, then k, then v; and z.
  void take_apart_large(const T* from, T* mixed, T* gate) const {
    const Index key = sizes_.key_dim, value = sizes_.values_per_key() * sizes_.value_dim;
    for (Index h = 0; h < sizes_.key_heads; ++h) {
      std::copy_n(from, key, mixed + h * key);
      std::copy_n(from + key, key, mixed + sizes_.key_channels() + h * key);
      std::copy_n(from + 2 * key, value, mixed + 2 * sizes_.key_channels() + h * value);
      std::copy_n(from + 2 * key + value, value, gate + h * value);
      from += 2 * (key + value);
    }
  }

  void take_apart_small(const T* from, T* rate, T* decay) const {
    const Index group = sizes_.values_per_key();
    for (Index h = 0; h < sizes_.key_heads; ++h) {
      std::copy_n(from + 2 * h * group, group, rate + h * group);
      std::copy_n(from + (2 * h + 1) * group, group, decay + h * group);
    }
  }

  // Rows [first, first + count) of a chunk of linears; out_TN has its rows.
  void pass_chunk(Index first, Index count, MatrixView<const float> convolved_TN,
                  const Projections& made, DeltaStates<T>& states, MatrixView<T> out_TN) const {
    const Index key = sizes_.key_dim, value = sizes_.value_dim;
    const MatrixView<const float> rows = convolved_TN.rows(first, count);
    const NormWeight norm = this->norm_of(spec_.norm);
    for (Index h = 0; h < sizes_.value_heads; ++h) {
      const Index key_head = h / sizes_.values_per_key();
      if (h % sizes_.values_per_key() == 0)
        states.take_keys(rows.cols(key_head * key, key),
                         rows.cols(sizes_.key_channels() + key_head * key, key));
      const MatrixView<const float> y_CE = states.pass(
          h, steps(first, count, h, made), rows.cols(2 * sizes_.key_channels() + h * value, value));
      loops_of<T>().norm_and_gate(y_CE, norm,
                                  made.gate_TN.rows(first, count).cols(h * value, value),
                                  out_TN.rows(first, count).cols(h * value, value));
    }
  }

  Steps steps(Index first, Index count, Index head, const Projections& made) const {
    const float speed = std::exp(this->weight(spec_.decay)(0, head));
    const float bias = this->weight(spec_.dt_bias)(0, head);
    Steps steps;
    double decay = 0;
    for (Index t = first; t < first + count; ++t) {
      decay -= speed * softplus(widened(made.decay_TV(t, head)) + bias);
      steps.decays.push_back(decay);
      steps.rates.push_back(sigmoid(widened(made.rate_TV(t, head))));
    }
    return steps;
  }

  const DeltaNet& spec_;
  const DeltaNetSizes& sizes_;
};

}  // namespace

template <typename T>
std::unique_ptr<CpuMixer<T>> make_delta_net(const CpuHalf<T>& half) {
  return std::make_unique<CpuDeltaNet<T>>(half);
}
template std::unique_ptr<CpuMixer<float>> make_delta_net(const CpuHalf<float>&);
template std::unique_ptr<CpuMixer<BFloat16>> make_delta_net(const CpuHalf<BFloat16>&);

}  // namespace calque::forward
