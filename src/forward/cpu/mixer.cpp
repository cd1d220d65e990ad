#include "forward/cpu/mixer.h"

#include <algorithm>

#include "calque/core/copies.h"
#include "calque/core/parallel.h"
#include "calque/forward/cost.h"
#include "forward/cpu/loops.h"

namespace calque::forward {
namespace {

// Rows that one thread norms at a time.
constexpr Index kNormedRows = 256;

ActivationView activation_view(MatrixView<const float> rows) { return {rows, {}, {}}; }
ActivationView activation_view(MatrixView<const BFloat16> rows) { return {{}, rows, {}}; }

}  // namespace

const Loops& loops() {
  static const Loops& chosen = CALQUE_CHOSEN_COPY(compiled_loops)();
  return chosen;
}

template <typename T>
CpuMixer<T>::CpuMixer(const CpuHalf<T>& half) : half_(half), linears_(half.half.site_count) {}

template <typename T>
void CpuMixer<T>::prepare(std::size_t index) {
  linears_[index] = forward::prepare<T>(site(index), half_.weights, half_.threads, half_.inputs);
}

template <typename T>
void CpuMixer<T>::prepare_all() {
  parallel_for(static_cast<Index>(linears_.size()), half_.threads,
               [&](Index i) { prepare(static_cast<std::size_t>(i)); });
}

NormWeight norm_weight(const model::NormSpec& spec, const model::BlockWeights& weights) {
  const auto eps = static_cast<float>(spec.epsilon);
  if (!spec.has_weight()) return {{}, 0.0f, eps};
  return {weights.at(spec.weight.name),
          spec.kind == model::NormSpec::Kind::kOnePlusWeight ? 1.0f : 0.0f, eps};
}

template <typename T>
void CpuMixer<T>::norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const {
  if (half_.half.norm) return loops_of<T>().rms_norm(hidden_TH, norm_of(*half_.half.norm), out_TH);
  for (Index t = 0; t < out_TH.rows(); ++t)
    for (Index i = 0; i < out_TH.cols(); ++i) store(hidden_TH(t, i), out_TH(t, i));
}

template <typename T>
void CpuMixer<T>::apply_linear(std::size_t index, MatrixView<const T> inputs_TK,
                               const TakeRows& take) const {
  const Lease workspace(half_.workspaces);
  const PreparedLinear<T>& linear = linears(index).front();
  each_chunk(inputs_TK.rows(), [&](Index first, Index count) {
    const MatrixView<T> out = workspace->matrix(Workspace<T>::kRight, count, linear.out_features());
    linear.apply(inputs_TK.rows(first, count), out);
    take(first, out);
  });
}

template <typename T>
template <typename E>
void CpuMixer<T>::add_output(MatrixView<const E> output_TH, MatrixView<float> sum_TH) const {
  if (!half_.half.post_norm) return loops_of<E>().add(output_TH, sum_TH);
  Matrix<float> normed_TH = Matrix<float>::uninitialized(sum_TH.rows(), sum_TH.cols());
  loops_of<E>().widen(output_TH, normed_TH);
  loops().of_float.rms_norm(normed_TH, norm_of(*half_.half.post_norm), normed_TH);
  loops().of_float.add(normed_TH.view(), sum_TH);
}

template <typename T>
void TwoSiteMixer<T>::add_inner(MatrixView<const T> inner_TN, MatrixView<float> sum_TH) const {
  this->apply_linear(1, inner_TN, [&](Index first, MatrixView<const T> out) {
    this->template add_output<T>(out, sum_TH.rows(first, out.rows()));
  });
}

template <typename T>
void TwoSiteMixer<T>::run_staged(StagedPass<T>& pass) {
  pass.show_norm(*this, 0);
  CpuStates& hidden = pass.hidden();
  const SequenceRows<T> inputs = pass.rows(inner_channels());
  pass.each_sequence([&](Index s) {
    inner(s, hidden.sequence_TH(s), inputs.of(s));
    hidden.release(s);
    inputs.release(s);
  });
  pass.show(*this, 1, inputs);
  if (!pass.wants_output()) return;
  pass.each_sequence([&](Index s) {
    add_inner(inputs.of(s), pass.sums().of(s));
    pass.sums().release(s);
    inputs.release(s);
  });
}

template <typename T>
void StagedPass<T>::each_sequence(const std::function<void(Index)>& body) {
  parallel_for(hidden_.sequences(), threads_, [&](Index s) {
    if (hidden_.length(s) > 0) body(s);
  });
}

template <typename T>
void StagedPass<T>::show_norm(CpuMixer<T>& mixer, std::size_t site) {
  const MatrixView<const float> hidden_TH = hidden_.all_TH();
  const Index step = std::min(observed_rows(hidden_TH.cols() * Index{sizeof(T)}), hidden_TH.rows());
  Matrix<T> normed_TH = Matrix<T>::uninitialized(step, hidden_TH.cols());
  for (Index first = 0; first < hidden_TH.rows(); first += step) {
    const Index count = std::min(step, hidden_TH.rows() - first);
    const MatrixView<T> chunk_TH = normed_TH.view().rows(0, count);
    norm_rows(mixer, hidden_TH.rows(first, count), chunk_TH);
    hidden_.release_rows(first, count);
    observer_.site_input(mixer.site(site), activation_view(chunk_TH));
  }
  finish(mixer, site);
}

template <typename T>
void StagedPass<T>::norm_rows(const CpuMixer<T>& mixer, MatrixView<const float> hidden_TH,
                              MatrixView<T> out_TH) {
  const Index pieces = (hidden_TH.rows() + kNormedRows - 1) / kNormedRows;
  parallel_for(pieces, threads_, [&](Index piece) {
    const Index first = piece * kNormedRows;
    const Index count = std::min(kNormedRows, hidden_TH.rows() - first);
    mixer.norm(hidden_TH.rows(first, count), out_TH.rows(first, count));
  });
}

template <typename T>
void StagedPass<T>::show(CpuMixer<T>& mixer, std::size_t site, const SequenceRows<T>& inputs,
                         std::span<const Index> tokens) {
  workspaces_.clear();  // the observer may need the memory
  const MatrixView<const T> inputs_TK = inputs.all();
  const Index step = observed_rows(inputs_TK.cols() * Index{sizeof(T)});
  for (Index first = 0; first < inputs_TK.rows(); first += step) {
    const Index count = std::min(step, inputs_TK.rows() - first);
    ActivationView view = activation_view(inputs_TK.rows(first, count));
    if (!tokens.empty())
      view.tokens =
          tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    observer_.site_input(mixer.site(site), view);
    inputs.release_rows(first, count);
  }
  finish(mixer, site);
}

template <typename T>
void StagedPass<T>::finish(CpuMixer<T>& mixer, std::size_t site) {
  observer_.site_ready(mixer.site(site), weights_);
  mixer.prepare(site);
}

template class CpuMixer<float>;
template class CpuMixer<BFloat16>;
template void CpuMixer<float>::add_output(MatrixView<const float>, MatrixView<float>) const;
template void CpuMixer<BFloat16>::add_output(MatrixView<const float>, MatrixView<float>) const;
template void CpuMixer<BFloat16>::add_output(MatrixView<const BFloat16>, MatrixView<float>) const;
template class TwoSiteMixer<float>;
template class TwoSiteMixer<BFloat16>;
template class StagedPass<float>;
template class StagedPass<BFloat16>;

}  // namespace calque::forward
