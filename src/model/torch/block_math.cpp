#include "model/torch/block_math.h"

#include <cmath>

#include "model/torch/activation.h"
#include "model/torch/rows.h"
#include "model/torch/tensors.h"

namespace calque::model {

template <typename T>
NormWeight BlockMath<T>::norm_of(const TensorSpec& spec) const {
  return {weights_.at(spec.name), config_.norm_plus_one ? 1.0f : 0.0f,
          static_cast<float>(config_.rms_norm_eps)};
}

template <typename T>
NormWeight BlockMath<T>::norm_of(const std::vector<TensorSpec>& spec) const {
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

template <typename T>
void BlockMath<T>::attention(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const at::Tensor normed = new_tensor<T>(hidden_TH.rows(), hidden_TH.cols());
  attn_norm(hidden_TH, view_of<T>(normed));
  std::vector<at::Tensor> outputs;
  std::vector<MatrixView<const T>> qkv;
  for (const PreparedLinear<T>& linear : linears(SiteKind::kAttnIn)) {
    outputs.push_back(new_tensor<T>(hidden_TH.rows(), linear.out_features()));
    linear.apply(view_of<T>(normed), view_of<T>(outputs.back()));
    qkv.push_back(view_of<T>(outputs.back()));
  }
  if (qkv.size() == 1) {
    const MatrixView<const T> fused = qkv.front();
    const Index width = config_.num_kv_heads * config_.head_dim;
    qkv = {fused.cols(0, attention_width()), fused.cols(attention_width(), width),
           fused.cols(attention_width() + width, width)};
  }
  attend<T>(attention_spec(), rotary_, {qkv[0], qkv[1], qkv[2]}, out_TN);
}

template <typename T>
void BlockMath<T>::activation(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const at::Tensor normed = new_tensor<T>(hidden_TH.rows(), hidden_TH.cols());
  mlp_norm(hidden_TH, view_of<T>(normed));
  gated(SiteKind::kMlpIn, -1, view_of<T>(normed), out_TN);
}

template <typename T>
void BlockMath<T>::gated(SiteKind kind, Index expert, MatrixView<const T> normed_TH,
                         MatrixView<T> out_TN) const {
  const std::vector<PreparedLinear<T>>& linears = this->linears(kind, expert);
  const Index width = out_TN.cols();
  const at::Tensor last = new_tensor<T>(normed_TH.rows(), linears.back().out_features());
  linears.back().apply(normed_TH, view_of<T>(last));
  if (linears.size() == 1) {  // gate above up
    borrow(out_TN).copy_(borrow(view_of<T>(last).cols(0, width)));
    gate<T>(config_.hidden_act, view_of<T>(last).cols(width, width), out_TN);
    return;
  }
  linears.front().apply(normed_TH, out_TN);
  gate<T>(config_.hidden_act, view_of<T>(last), out_TN);
}

template <typename T>
at::Tensor BlockMath<T>::down(SiteKind kind, Index expert, MatrixView<const T> inputs_TK) const {
  const PreparedLinear<T>& linear = linears(kind, expert).front();
  at::Tensor out = new_tensor<T>(inputs_TK.rows(), linear.out_features());
  linear.apply(inputs_TK, view_of<T>(out));
  return out;
}

template <typename T>
void BlockMath<T>::add_output(SiteKind kind, MatrixView<const T> inputs_TK,
                              MatrixView<float> sum_TH) const {
  const at::Tensor out = down(kind, -1, inputs_TK);
  const std::vector<TensorSpec>& post_norm =
      kind == SiteKind::kAttnOut ? block_.attn_post_norm : block_.mlp_post_norm;
  if (post_norm.empty()) return add_rows<T>(view_of<T>(out), sum_TH);
  Matrix<float> normed_TH = Matrix<float>::uninitialized(sum_TH.rows(), sum_TH.cols());
  widen_rows<T>(view_of<T>(out), normed_TH);
  rms_norm_rows<float>(normed_TH, norm_of(post_norm), normed_TH);
  add_rows<float>(normed_TH.view(), sum_TH);
}

template <typename T>
void BlockMath<T>::add_half(BlockHalf half, MatrixView<const float> hidden_TH,
                            MatrixView<float> sum_TH) const {
  if (half == BlockHalf::kMlp && !block_.experts.empty()) return add_experts(hidden_TH, sum_TH);
  const bool attends = half == BlockHalf::kAttention;
  const at::Tensor inner =
      new_tensor<T>(hidden_TH.rows(), attends ? attention_width() : mlp_width());
  if (attends)
    attention(hidden_TH, view_of<T>(inner));
  else
    activation(hidden_TH, view_of<T>(inner));
  add_output(attends ? SiteKind::kAttnOut : SiteKind::kMlpOut, view_of<T>(inner), sum_TH);
}

template class BlockMath<float>;
template class BlockMath<BFloat16>;

}  // namespace calque::model
