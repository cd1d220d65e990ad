#include "model/torch/block_math.h"

#include <ATen/ops/silu.h>

#include "model/torch/rows.h"
#include "model/torch/tensors.h"

namespace calque::model {

template <typename T>
void BlockMath<T>::attn_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const {
  rms_norm_rows(hidden_TH, weights_.at(block_.attn_norm.name), eps(), out_TH);
}

template <typename T>
void BlockMath<T>::mlp_norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const {
  rms_norm_rows(hidden_TH, weights_.at(block_.mlp_norm.name), eps(), out_TH);
}

template <typename T>
AttentionSpec BlockMath<T>::attention_spec() const {
  AttentionSpec spec;
  spec.heads = config_.num_heads;
  spec.kv_heads = config_.num_kv_heads;
  spec.head_dim = config_.head_dim;
  spec.window = block_.window;
  spec.norm_eps = eps();
  if (!block_.q_norm.empty()) spec.q_norm_1D = weights_.at(block_.q_norm.front().name);
  if (!block_.k_norm.empty()) spec.k_norm_1D = weights_.at(block_.k_norm.front().name);
  return spec;
}

template <typename T>
void BlockMath<T>::attention(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const at::Tensor normed = new_tensor<T>(hidden_TH.rows(), hidden_TH.cols());
  attn_norm(hidden_TH, view_of<T>(normed));
  std::vector<at::Tensor> qkv;
  for (const PreparedLinear<T>& linear : linears_.at(SiteKind::kAttnIn)) {
    qkv.push_back(new_tensor<T>(hidden_TH.rows(), linear.out_features()));
    linear.apply(view_of<T>(normed), view_of<T>(qkv.back()));
  }
  attend<T>(attention_spec(), rotary_, {view_of<T>(qkv[0]), view_of<T>(qkv[1]), view_of<T>(qkv[2])},
            out_TN);
}

template <typename T>
void BlockMath<T>::activation(MatrixView<const float> hidden_TH, MatrixView<T> out_TN) const {
  const at::Tensor normed = new_tensor<T>(hidden_TH.rows(), hidden_TH.cols());
  mlp_norm(hidden_TH, view_of<T>(normed));
  const std::vector<PreparedLinear<T>>& linears = linears_.at(SiteKind::kMlpIn);
  const at::Tensor up = new_tensor<T>(hidden_TH.rows(), out_TN.cols());
  linears[0].apply(view_of<T>(normed), out_TN);
  linears[1].apply(view_of<T>(normed), view_of<T>(up));
  at::Tensor gate = borrow(out_TN);
  at::silu_(gate);
  gate.mul_(up);
}

template <typename T>
void BlockMath<T>::add_output(SiteKind kind, MatrixView<const T> inputs_TK,
                              MatrixView<float> hidden_TH) const {
  const at::Tensor out = new_tensor<T>(hidden_TH.rows(), hidden_TH.cols());
  linears_.at(kind).front().apply(inputs_TK, view_of<T>(out));
  add_rows<T>(view_of<T>(out), hidden_TH);
}

template class BlockMath<float>;
template class BlockMath<BFloat16>;

}  // namespace calque::model
