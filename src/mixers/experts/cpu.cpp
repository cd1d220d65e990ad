#include "mixers/experts/cpu.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "forward/cpu/loops.h"
#include "mixers/mlp/cpu.h"

// Answers of experts are summed in fp32 in the experts' order, the shared one last, and then added
// to the residual stream.
namespace calque::forward {
namespace {

// The rows of one sequence that go to each expert, and the weights of its answers.
struct RoutedRows {
  struct Expert {
    std::vector<Index> rows;  // ascending
    std::vector<float> weights;
  };
  std::vector<Expert> experts;
};

// A router's values beside its matrix; spans may be empty.
struct RouterValues {
  std::span<const float> bias_E;
  std::span<const float> choice_bias_E;
  std::span<const float> answer_scale_E;
};

// In fp32 whatever the compute type.
RoutedRows route(const model::Experts& spec, MatrixView<const float> router_EH,
                 const RouterValues& values, MatrixView<const float> normed_TH) {
  RoutedRows routing;
  routing.experts.resize(static_cast<std::size_t>(spec.count));
  Matrix<float> scores_TE = Matrix<float>::uninitialized(normed_TH.rows(), spec.count);
  multiply_transposed(normed_TH, router_EH, scores_TE);
  for (Index t = 0; t < normed_TH.rows(); ++t) {
    const std::span<float> scores_E = scores_TE.view().row_span(t);
    if (spec.router_scale != 1)
      for (float& score : scores_E) score *= static_cast<float>(spec.router_scale);
    for (std::size_t e = 0; e < values.bias_E.size(); ++e) scores_E[e] += values.bias_E[e];
    for (const model::RoutedTo& to : spec.routing.choose(scores_E, values.choice_bias_E)) {
      const auto e = static_cast<std::size_t>(to.expert);
      routing.experts[e].rows.push_back(t);
      routing.experts[e].weights.push_back(
          values.answer_scale_E.empty() ? to.weight : to.weight * values.answer_scale_E[e]);
    }
  }
  return routing;
}

// Sigmoid of the gate's product with each row.
std::vector<float> shared_weights(MatrixView<const float> gate_1H,
                                  MatrixView<const float> normed_TH) {
  Matrix<float> scores_T1 = Matrix<float>::uninitialized(normed_TH.rows(), 1);
  multiply_transposed(normed_TH, gate_1H, scores_T1);
  std::vector<float> weights;
  for (Index t = 0; t < normed_TH.rows(); ++t)
    weights.push_back(1.0f / (1.0f + std::exp(-scores_T1(t, 0))));
  return weights;
}

template <typename T>
void gather(MatrixView<const T> from_TH, const std::vector<Index>& rows, MatrixView<T> out_RH) {
  for (Index r = 0; r < out_RH.rows(); ++r) {
    const T* const row = from_TH.row(rows[static_cast<std::size_t>(r)]);
    std::copy(row, row + out_RH.cols(), out_RH.row(r));
  }
}

template <typename T>
Matrix<float> widened_rows(MatrixView<const T> rows_TH) {
  Matrix<float> result = Matrix<float>::uninitialized(rows_TH.rows(), rows_TH.cols());
  loops_of<T>().widen(rows_TH, result);
  return result;
}

template <typename T>
void add_weighted(const T* from, float weight, Index count, float* to) {
  for (Index i = 0; i < count; ++i) to[i] += weight * widened(from[i]);
}

template <typename T>
class CpuExperts : public CpuMixer<T> {
 public:
  explicit CpuExperts(const CpuHalf<T>& half)
      : CpuMixer<T>(half), spec_(half.template mixer<model::Experts>()) {}

  void add(Index, MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const override;
  void run_staged(StagedPass<T>& pass) override;

 private:
  using typename CpuMixer<T>::Lease;
  static constexpr std::size_t kIn = model::Experts::kIn;

  std::span<const float> values(const std::optional<model::TensorSpec>& spec) const {
    if (!spec) return {};
    return this->weight(*spec).row_span(0);
  }
  // `normed_TH` is what the experts read.
  RoutedRows route_rows(MatrixView<const float> hidden_TH, MatrixView<const T> normed_TH) const {
    const RouterValues beside{values(spec_.router_bias), values(spec_.choice_bias),
                              values(spec_.answer_scale)};
    const MatrixView<const float> router_EH = this->weight(spec_.router);
    if (!spec_.router_norm) return route(spec_, router_EH, beside, widened_rows(normed_TH));
    Matrix<float> own_TH = Matrix<float>::uninitialized(hidden_TH.rows(), hidden_TH.cols());
    loops().of_float.rms_norm(hidden_TH, this->norm_of(*spec_.router_norm), own_TH);
    return route(spec_, router_EH, beside, own_TH);
  }
  using Linears = std::span<const PreparedLinear<T>>;

  // Gate and up of an expert, and of the shared one.
  Linears gate_and_up(Index expert) const {
    return Linears(this->linears(spec_.gate_site(expert))).subspan(spec_.gate_place(expert), 2);
  }
  Linears shared_gate_and_up() const { return Linears(this->linears(kIn)).first(2); }
  // From normed rows to what the down behind these linears reads.
  void gated(Linears linears, MatrixView<const T> normed_TH, MatrixView<T> out_TN) const;
  // Weighted answers to `inputs_TK`, added to their rows of `sum_TH`.
  void add_expert(Index expert, const RoutedRows& routing, MatrixView<const T> inputs_TK,
                  MatrixView<float> sum_TH) const;
  void add_shared(MatrixView<const T> normed_TH, MatrixView<const T> inputs_TK,
                  MatrixView<float> sum_TH) const;

  // All stages start from these and add to them. Products are of a sequence's rows at a time, as in
  // a run in one piece: another number of rows could give other bits.
  struct Stages {
    SequenceRows<T> normed;
    SequenceRows<float> answers;
    std::vector<RoutedRows> routing_B;
    const RoutedRows& routing(Index sequence) const {
      return routing_B[static_cast<std::size_t>(sequence)];
    }
  };
  Stages start(StagedPass<T>& pass) const;
  SequenceRows<T> routed_to(Index expert, const Stages& stages, StagedPass<T>& pass) const;
  std::vector<Index> tokens_of(Index expert, const Stages& stages, StagedPass<T>& pass) const;
  // From normed rows, as many of each sequence as there are, to what the expert's down reads.
  SequenceRows<T> inputs_of(Index expert, const SequenceRows<T>& normed, StagedPass<T>& pass) const;
  void run_expert(Index expert, Stages& stages, StagedPass<T>& pass);
  void run_shared(Stages& stages, StagedPass<T>& pass);

  const model::Experts& spec_;
};

template <typename T>
void CpuExperts<T>::gated(Linears linears, MatrixView<const T> normed_TH,
                          MatrixView<T> out_TN) const {
  const Lease workspace(this->half_.workspaces);
  each_chunk(normed_TH.rows(), [&](Index first, Index count) {
    gated_rows<T>(linears, spec_.activation, normed_TH.rows(first, count), *workspace,
                  out_TN.rows(first, count));
  });
}

template <typename T>
void CpuExperts<T>::add_expert(Index expert, const RoutedRows& routing,
                               MatrixView<const T> inputs_TK, MatrixView<float> sum_TH) const {
  const RoutedRows::Expert& routed = routing.experts[static_cast<std::size_t>(expert)];
  this->apply_linear(
      spec_.expert_out(expert), inputs_TK, [&](Index first, MatrixView<const T> out) {
        for (Index r = 0; r < out.rows(); ++r) {
          const auto i = static_cast<std::size_t>(first + r);
          add_weighted(out.row(r), routed.weights[i], sum_TH.cols(), sum_TH.row(routed.rows[i]));
        }
      });
}

template <typename T>
void CpuExperts<T>::add_shared(MatrixView<const T> normed_TH, MatrixView<const T> inputs_TK,
                               MatrixView<float> sum_TH) const {
  std::vector<float> weights(static_cast<std::size_t>(sum_TH.rows()), 1.0f);
  if (spec_.shared_gate)
    weights = shared_weights(this->weight(*spec_.shared_gate), widened_rows(normed_TH));
  this->apply_linear(spec_.shared_out(), inputs_TK, [&](Index first, MatrixView<const T> out) {
    for (Index r = 0; r < out.rows(); ++r)
      add_weighted(out.row(r), weights[static_cast<std::size_t>(first + r)], sum_TH.cols(),
                   sum_TH.row(first + r));
  });
}

template <typename T>
void CpuExperts<T>::add(Index, MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const {
  Matrix<T> normed_TH = Matrix<T>::uninitialized(hidden_TH.rows(), hidden_TH.cols());
  this->norm(hidden_TH, normed_TH);
  const RoutedRows routing = route_rows(hidden_TH, normed_TH.view());
  Matrix<float> answers_TH(hidden_TH.rows(), hidden_TH.cols());
  for (Index e = 0; e < spec_.count; ++e) {
    const std::vector<Index>& rows = routing.experts[static_cast<std::size_t>(e)].rows;
    if (rows.empty()) continue;
    Matrix<T> routed_RH =
        Matrix<T>::uninitialized(static_cast<Index>(rows.size()), hidden_TH.cols());
    gather<T>(normed_TH.view(), rows, routed_RH);
    Matrix<T> inner_RK = Matrix<T>::uninitialized(routed_RH.rows(), spec_.width);
    gated(gate_and_up(e), routed_RH.view(), inner_RK);
    add_expert(e, routing, inner_RK.view(), answers_TH);
  }
  if (spec_.shared_width > 0) {
    Matrix<T> inner_TK = Matrix<T>::uninitialized(hidden_TH.rows(), spec_.shared_width);
    gated(shared_gate_and_up(), normed_TH.view(), inner_TK);
    add_shared(normed_TH.view(), inner_TK.view(), answers_TH);
  }
  this->template add_output<float>(answers_TH.view(), sum_TH);
}

template <typename T>
void CpuExperts<T>::run_staged(StagedPass<T>& pass) {
  pass.show_norm(*this, model::Experts::kIn);
  Stages stages = start(pass);
  for (Index e = 0; e < spec_.count && !spec_.all_tokens; ++e)
    pass.show(*this, spec_.expert_in(e), routed_to(e, stages, pass), tokens_of(e, stages, pass));
  for (Index e = 0; e < spec_.count; ++e) run_expert(e, stages, pass);
  if (spec_.shared_width > 0) run_shared(stages, pass);
  if (!pass.wants_output()) return;
  pass.each_sequence([&](Index s) {
    this->template add_output<float>(stages.answers.of(s), pass.sums().of(s));
    pass.sums().release(s);
    stages.answers.release(s);
  });
}

template <typename T>
auto CpuExperts<T>::start(StagedPass<T>& pass) const -> Stages {
  CpuStates& hidden = pass.hidden();
  const Index width = hidden.all_TH().cols();
  Stages stages{pass.rows(width), pass.template rows<float>(width),
                std::vector<RoutedRows>(static_cast<std::size_t>(hidden.sequences()))};
  pass.each_sequence([&](Index s) {
    const MatrixView<T> normed_TH = stages.normed.of(s);
    this->norm(hidden.sequence_TH(s), normed_TH);
    stages.routing_B[static_cast<std::size_t>(s)] = route_rows(hidden.sequence_TH(s), normed_TH);
    const MatrixView<float> answers_TH = stages.answers.of(s);
    std::fill_n(answers_TH.data(), answers_TH.size(), 0.0f);
    hidden.release(s);
    stages.normed.release(s);
    stages.answers.release(s);
  });
  return stages;
}

template <typename T>
SequenceRows<T> CpuExperts<T>::routed_to(Index expert, const Stages& stages,
                                         StagedPass<T>& pass) const {
  const auto rows_of = [&](Index s) -> const std::vector<Index>& {
    return stages.routing(s).experts[static_cast<std::size_t>(expert)].rows;
  };
  std::vector<Index> firsts_B{0};
  for (Index s = 0; s < pass.hidden().sequences(); ++s) {
    const bool empty = stages.routing(s).experts.empty();
    firsts_B.push_back(firsts_B.back() + (empty ? 0 : static_cast<Index>(rows_of(s).size())));
  }
  SequenceRows<T> routed = pass.rows(std::move(firsts_B), stages.normed.all().cols());
  pass.each_sequence([&](Index s) {
    if (routed.length(s) == 0) return;
    gather<T>(stages.normed.of(s), rows_of(s), routed.of(s));
    stages.normed.release(s);
    routed.release(s);
  });
  return routed;
}

// Places of the tokens that are sent to the expert, as ActivationView counts them.
template <typename T>
std::vector<Index> CpuExperts<T>::tokens_of(Index expert, const Stages& stages,
                                            StagedPass<T>& pass) const {
  std::vector<Index> tokens;
  for (Index s = 0; s < pass.hidden().sequences(); ++s) {
    if (stages.routing(s).experts.empty()) continue;
    for (const Index row : stages.routing(s).experts[static_cast<std::size_t>(expert)].rows)
      tokens.push_back(pass.hidden().rows().first(s) + row);
  }
  return tokens;
}

template <typename T>
SequenceRows<T> CpuExperts<T>::inputs_of(Index expert, const SequenceRows<T>& normed,
                                         StagedPass<T>& pass) const {
  SequenceRows<T> inputs = pass.rows(normed.firsts_B(), spec_.width);
  pass.each_sequence([&](Index s) {
    if (normed.length(s) == 0) return;
    gated(gate_and_up(expert), normed.of(s), inputs.of(s));
    normed.release(s);
    inputs.release(s);
  });
  return inputs;
}

template <typename T>
void CpuExperts<T>::run_expert(Index expert, Stages& stages, StagedPass<T>& pass) {
  const SequenceRows<T> inputs = inputs_of(expert, routed_to(expert, stages, pass), pass);
  if (spec_.all_tokens)
    pass.show(*this, spec_.expert_out(expert), inputs_of(expert, stages.normed, pass));
  else
    pass.show(*this, spec_.expert_out(expert), inputs, tokens_of(expert, stages, pass));
  if (!pass.wants_output()) return;
  pass.each_sequence([&](Index s) {
    if (inputs.length(s) == 0) return;
    add_expert(expert, stages.routing(s), inputs.of(s), stages.answers.of(s));
    inputs.release(s);
    stages.answers.release(s);
  });
}

template <typename T>
void CpuExperts<T>::run_shared(Stages& stages, StagedPass<T>& pass) {
  const SequenceRows<T> inputs = pass.rows(spec_.shared_width);
  pass.each_sequence([&](Index s) {
    gated(shared_gate_and_up(), stages.normed.of(s), inputs.of(s));
    stages.normed.release(s);
    inputs.release(s);
  });
  pass.show(*this, spec_.shared_out(), inputs);
  if (!pass.wants_output()) return;
  pass.each_sequence([&](Index s) {
    add_shared(stages.normed.of(s), inputs.of(s), stages.answers.of(s));
    stages.normed.release(s);
    inputs.release(s);
    stages.answers.release(s);
  });
}

}  // namespace

template <typename T>
std::unique_ptr<CpuMixer<T>> make_experts(const CpuHalf<T>& half) {
  return std::make_unique<CpuExperts<T>>(half);
}
template std::unique_ptr<CpuMixer<float>> make_experts(const CpuHalf<float>&);
template std::unique_ptr<CpuMixer<BFloat16>> make_experts(const CpuHalf<BFloat16>&);

}  // namespace calque::forward
