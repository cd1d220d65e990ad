#include "forward/cpu/block_math.h"

#include <algorithm>
#include <cmath>

#include "forward/cpu/activation.h"
#include "forward/cpu/rows.h"

namespace calque::forward {

template <typename T>
NormWeight BlockMath<T>::norm_of(const model::TensorSpec& spec) const {
  return {weights_.at(spec.name), config_.norm_plus_one ? 1.0f : 0.0f,
          static_cast<float>(config_.rms_norm_eps)};
}

template <typename T>
NormWeight BlockMath<T>::norm_of(const std::vector<model::TensorSpec>& spec) const {
  return spec.empty() ? NormWeight() : norm_of(spec.front());
}

template <typename T>
void BlockMath<T>::attn_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const {
  rms_norm_rows(hidden_TH, norm_of(block_.attn_norm), out_TH);
}

template <typename T>
void BlockMath<T>::mlp_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const {
  rms_norm_rows(hidden_TH, norm_of(block_.mlp_norm), out_TH);
}

template <typename T>
AttentionSpec BlockMath<T>::attention_spec() const {
  AttentionSpec spec;
  spec.heads = config_.num_heads;
  spec.kv_heads = config_.num_kv_heads;
  spec.head_dim = config_.head_dim;
  spec.window = block_.window;
  spec.scale = config_.query_scale > 0 ? static_cast<float>(config_.query_scale)
                                       : 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  spec.softcap = static_cast<float>(config_.attention_softcap);
  spec.q_norm = norm_of(block_.q_norm);
  spec.k_norm = norm_of(block_.k_norm);
  spec.kv_cache = kv_cache_;
  return spec;
}

namespace {

// body(first, count) for consecutive chunks of rows.
template <typename Body>
void each_chunk(Index rows, const Body& body) {
  for (Index first = 0; first < rows; first += kChunkRows)
    body(first, std::min(kChunkRows, rows - first));
}

}  // namespace

template <typename T>
Projections<T> BlockMath<T>::project(MatrixView<const T> normed_TH, Workspace<T>& workspace) const {
  const std::vector<PreparedLinear<T>>& linears = this->linears(model::SiteKind::kAttnIn);
  const auto run = [&](const PreparedLinear<T>& linear, Buffer<T>& buffer) {
    const MatrixView<T> out = buffer.matrix(normed_TH.rows(), linear.out_features());
    linear.apply(normed_TH, out);
    return MatrixView<const T>(out);
  };
  if (linears.size() == 3)
    return {run(linears[0], workspace.left), run(linears[1], workspace.right),
            run(linears[2], workspace.third)};
  const MatrixView<const T> fused = run(linears.front(), workspace.left);
  const Index width = config_.num_kv_heads * config_.head_dim;
  return {fused.cols(0, attention_width()), fused.cols(attention_width(), width),
          fused.cols(attention_width() + width, width)};
}

template <typename T>
void BlockMath<T>::attention(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const Lease workspace(workspaces_);
  const AttentionSpec spec = attention_spec();
  SequenceAttention<T> attention(spec, rotary_, hidden_TH.rows(), workspace->attention);
  each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
    const MatrixView<T> normed = workspace->normed.matrix(count, hidden_TH.cols());
    attn_norm(hidden_TH.rows(first, count), normed);
    attention.take(first, project(normed, *workspace));
  });
  attention.run(out_TN);
}

template <typename T>
void BlockMath<T>::activation(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const Lease workspace(workspaces_);
  each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
    const MatrixView<T> normed = workspace->normed.matrix(count, hidden_TH.cols());
    mlp_norm(hidden_TH.rows(first, count), normed);
    gated_chunk(linears(model::SiteKind::kMlpIn), normed, *workspace, out_TN.rows(first, count));
  });
}

template <typename T>
void BlockMath<T>::gated(model::SiteKind kind, Index expert, MatrixView<const T> normed_TH,
                         MatrixView<T> out_TN) const {
  const Lease workspace(workspaces_);
  each_chunk(normed_TH.rows(), [&](Index first, Index count) {
    gated_chunk(linears(kind, expert), normed_TH.rows(first, count), *workspace,
                out_TN.rows(first, count));
  });
}

template <typename T>
void BlockMath<T>::gated_chunk(const std::vector<PreparedLinear<T>>& linears,
                               MatrixView<const T> normed_TH, Workspace<T>& workspace,
                               MatrixView<T> out_TN) const {
  const MatrixView<T> last = workspace.left.matrix(normed_TH.rows(), linears.back().out_features());
  linears.back().apply(normed_TH, last);
  if (linears.size() == 1) {  // gate above up
    const Index width = out_TN.cols();
    for (Index t = 0; t < last.rows(); ++t) std::copy_n(last.row(t), width, out_TN.row(t));
    gate<T>(config_.hidden_act, last.cols(width, width), out_TN);
    return;
  }
  linears.front().apply(normed_TH, out_TN);
  gate<T>(config_.hidden_act, last, out_TN);
}

template <typename T>
void BlockMath<T>::down(model::SiteKind kind, Index expert, MatrixView<const T> inputs_TK,
                        const TakeRows& take) const {
  const Lease workspace(workspaces_);
  const PreparedLinear<T>& linear = linears(kind, expert).front();
  each_chunk(inputs_TK.rows(), [&](Index first, Index count) {
    const MatrixView<T> out = workspace->right.matrix(count, linear.out_features());
    linear.apply(inputs_TK.rows(first, count), out);
    take(first, out);
  });
}

template <typename T>
void BlockMath<T>::add_output(model::SiteKind kind, MatrixView<const T> inputs_TK,
                              MatrixView<float> sum_TH) const {
  const std::vector<model::TensorSpec>& post_norm =
      kind == model::SiteKind::kAttnOut ? block_.attn_post_norm : block_.mlp_post_norm;
  down(kind, -1, inputs_TK, [&](Index first, MatrixView<const T> out) {
    const MatrixView<float> sum = sum_TH.rows(first, out.rows());
    if (post_norm.empty()) return add_rows<T>(out, sum);
    Matrix<float> normed_TH = Matrix<float>::uninitialized(sum.rows(), sum.cols());
    widen_rows<T>(out, normed_TH);
    rms_norm_rows<float>(normed_TH, norm_of(post_norm), normed_TH);
    add_rows<float>(normed_TH.view(), sum);
  });
}

template <typename T>
void BlockMath<T>::add_half(BlockHalf half, MatrixView<const float> hidden_TH,
                            MatrixView<float> sum_TH) const {
  if (half == BlockHalf::kMlp && !block_.experts.empty()) return add_experts(hidden_TH, sum_TH);
  if (half == BlockHalf::kAttention) {
    const Lease workspace(workspaces_);
    const MatrixView<T> inner = workspace->inner.matrix(hidden_TH.rows(), attention_width());
    attention(hidden_TH, inner);
    return add_output(model::SiteKind::kAttnOut, inner, sum_TH);
  }
  const Lease workspace(workspaces_);
  each_chunk(hidden_TH.rows(), [&](Index first, Index count) {
    const MatrixView<T> inner = workspace->inner.matrix(count, mlp_width());
    activation(hidden_TH.rows(first, count), inner);
    add_output(model::SiteKind::kMlpOut, inner, sum_TH.rows(first, count));
  });
}

template class BlockMath<float>;
template class BlockMath<BFloat16>;

}  // namespace calque::forward
