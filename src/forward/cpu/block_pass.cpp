#include "forward/cpu/block_pass.h"

#include <algorithm>

#include "calque/forward/cost.h"

namespace calque::forward {
namespace {

// Rows that one thread norms at a time.
constexpr Index kNormedRows = 256;

ActivationView activation_view(MatrixView<const float> rows) { return {rows, {}, {}}; }
ActivationView activation_view(MatrixView<const BFloat16> rows) { return {{}, rows, {}}; }

}  // namespace

template <typename T>
void BlockPass<T>::run() {
  for (const model::SiteSpec& site : block_.sites) math_.prepare(site);
  each_sequence([&](Index s) {
    const MatrixView<float> hidden_TH = hidden_.sequence_TH(s);
    math_.add_half(BlockHalf::kAttention, hidden_TH, hidden_TH);
    math_.add_half(BlockHalf::kMlp, hidden_TH, hidden_TH);
    hidden_.release(s);
  });
}

template <typename T>
void BlockPass<T>::run_staged(BlockObserver& observer) {
  show_norm(observer, model::SiteKind::kAttnIn);
  run_half(observer, model::SiteKind::kAttnOut, math_.attention_width(), &BlockMath<T>::attention);
  show_norm(observer, model::SiteKind::kMlpIn);
  if (block_.experts.empty())
    run_half(observer, model::SiteKind::kMlpOut, math_.mlp_width(), &BlockMath<T>::activation);
  else
    run_experts(observer);
}

template <typename T>
void BlockPass<T>::each_sequence(const std::function<void(Index)>& body) {
  parallel_for(hidden_.sequences(), threads_, [&](Index s) {
    if (hidden_.length(s) > 0) body(s);
  });
}

template <typename T>
void BlockPass<T>::show(BlockObserver& observer, const model::SiteSpec& site,
                        const SequenceRows<T>& inputs) {
  math_.free_workspaces();  // the observer may need the memory
  const MatrixView<const T> inputs_TK = inputs.all();
  const Index step = observed_rows(inputs_TK.cols() * Index{sizeof(T)});
  for (Index first = 0; first < inputs_TK.rows(); first += step) {
    const Index count = std::min(step, inputs_TK.rows() - first);
    observer.site_input(site, activation_view(inputs_TK.rows(first, count)));
    inputs.release_rows(first, count);
  }
}

template <typename T>
void BlockPass<T>::finish_site(BlockObserver& observer, const model::SiteSpec& site) {
  observer.site_ready(site, weights_);
  math_.prepare(site);
}

// The norms are computed again in the next step: cheaper than keeping them for all rows.
template <typename T>
void BlockPass<T>::show_norm(BlockObserver& observer, model::SiteKind kind) {
  const model::SiteSpec& site = block_.site(kind);
  const MatrixView<const float> hidden_TH = hidden_.all_TH();
  const Index step = std::min(observed_rows(hidden_TH.cols() * Index{sizeof(T)}), hidden_TH.rows());
  Matrix<T> normed_TH = Matrix<T>::uninitialized(step, hidden_TH.cols());
  for (Index first = 0; first < hidden_TH.rows(); first += step) {
    const Index count = std::min(step, hidden_TH.rows() - first);
    const MatrixView<T> chunk_TH = normed_TH.view().rows(0, count);
    norm_rows(kind, hidden_TH.rows(first, count), chunk_TH);
    hidden_.release_rows(first, count);
    observer.site_input(site, activation_view(chunk_TH));
  }
  finish_site(observer, site);
}

template <typename T>
void BlockPass<T>::norm_rows(model::SiteKind kind, MatrixView<const float> hidden_TH,
                             MatrixView<T> out_TH) {
  const Index pieces = (hidden_TH.rows() + kNormedRows - 1) / kNormedRows;
  parallel_for(pieces, threads_, [&](Index piece) {
    const Index first = piece * kNormedRows;
    const Index count = std::min(kNormedRows, hidden_TH.rows() - first);
    if (kind == model::SiteKind::kAttnIn)
      math_.attn_norm(hidden_TH.rows(first, count), out_TH.rows(first, count));
    else
      math_.mlp_norm(hidden_TH.rows(first, count), out_TH.rows(first, count));
  });
}

// `step` makes the inputs of `kind` for all rows; they are shown and then go through its linear.
template <typename T>
void BlockPass<T>::run_half(BlockObserver& observer, model::SiteKind kind, Index width, Step step) {
  const model::SiteSpec& site = block_.site(kind);
  const SequenceRows<T> inputs(scratch_, hidden_.firsts_B(), width);
  each_sequence([&](Index s) {
    (math_.*step)(hidden_.sequence_TH(s), inputs.of(s));
    hidden_.release(s);
    inputs.release(s);
  });
  show(observer, site, inputs);
  finish_site(observer, site);
  if (kind == model::SiteKind::kMlpOut && !observer.wants_output()) return;
  each_sequence([&](Index s) {
    math_.add_output(kind, inputs.of(s), hidden_.sequence_TH(s));
    hidden_.release(s);
    inputs.release(s);
  });
}

template class BlockPass<float>;
template class BlockPass<BFloat16>;

}  // namespace calque::forward
