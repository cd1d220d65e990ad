#include "forward/torch/tensor_math.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

#include <cmath>

#include "forward/torch/tensor_attention.h"
#include "forward/torch/tensors.h"

namespace calque::forward {
namespace {

void gate(const std::string& act, at::Tensor& gate_TN, const at::Tensor& up_TN) {
  if (act == "silu")
    at::silu_(gate_TN);
  else
    at::gelu_(gate_TN, "tanh");
  gate_TN.mul_(up_TN);
}

}  // namespace

// In two steps: ATen would convert before it copies, on the host.
at::Tensor on_device(MatrixView<const float> matrix, const at::Device& device,
                     at::ScalarType dtype) {
  return borrow(matrix).to(device, at::kFloat, false, /*copy=*/dtype == at::kFloat).to(dtype);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double offset, double eps) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * (weight + offset);
}

at::Tensor TensorMath::Linear::operator()(const at::Tensor& inputs_TK) const {
  return bias_N.defined() ? at::addmm(bias_N, inputs_TK, weight_NK.t())
                          : at::mm(inputs_TK, weight_NK.t());
}

void TensorMath::prepare(const model::SiteSpec& site) {
  std::vector<Linear> linears;
  for (const model::LinearSpec& spec : site.readers) {
    Linear& linear = linears.emplace_back();
    linear.weight_NK = on_device(weights_.at(spec.weight.name), device_, compute_);
    if (!spec.bias.empty())
      linear.bias_N = on_device(weights_.at(spec.bias.front().name), device_, compute_).squeeze(0);
  }
  linears_.insert_or_assign({site.kind, site.expert}, std::move(linears));
}

at::Tensor TensorMath::upload(const model::TensorSpec& spec) const {
  at::Tensor& uploaded = uploaded_[spec.name];
  if (!uploaded.defined()) uploaded = on_device(weights_.at(spec.name), device_, at::kFloat);
  return uploaded;
}

at::Tensor TensorMath::norm(const model::TensorSpec& weight, const at::Tensor& x) const {
  return rms_norm(x, upload(weight).squeeze(0), config_.norm_plus_one ? 1.0 : 0.0,
                  config_.rms_norm_eps);
}

at::Tensor TensorMath::attn_norm(const at::Tensor& hidden_TH) const {
  return norm(block_.attn_norm, hidden_TH).to(compute_);
}

at::Tensor TensorMath::mlp_norm(const at::Tensor& hidden_TH) const {
  return norm(block_.mlp_norm, hidden_TH).to(compute_);
}

at::Tensor TensorMath::attention(const at::Tensor& normed_TH,
                                 std::span<const Index> lengths) const {
  std::vector<at::Tensor> qkv;
  for (const Linear& linear : linears(model::SiteKind::kAttnIn)) qkv.push_back(linear(normed_TH));
  if (qkv.size() == 1) {
    const Index width = config_.num_kv_heads * config_.head_dim;
    qkv = qkv.front().split_with_sizes({config_.num_heads * config_.head_dim, width, width}, 1);
  }
  std::vector<at::Tensor> sequences;
  Index first = 0;
  for (const Index length : lengths) {
    sequences.push_back(attend(qkv[0].narrow(0, first, length), qkv[1].narrow(0, first, length),
                               qkv[2].narrow(0, first, length))
                            .to(compute_));
    first += length;
  }
  return at::cat(sequences, 0);
}

at::Tensor TensorMath::attend(const at::Tensor& q_TN, const at::Tensor& k_TN,
                              const at::Tensor& v_TN) const {
  const double scale = config_.query_scale > 0
                           ? config_.query_scale
                           : 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
  const TensorAttention attention{block_.window, config_.attention_softcap};
  const Index kv_heads = config_.num_kv_heads;
  return attention(rotary_.turn(heads_of(q_TN, config_.num_heads, block_.q_norm)) * scale,
                   through_cache(rotary_.turn(heads_of(k_TN, kv_heads, block_.k_norm)),
                                 &KvCacheRounding::round_keys),
                   through_cache(heads_of(v_TN, kv_heads, {}), &KvCacheRounding::round_values));
}

// On the host, where the block types' arithmetic is.
at::Tensor TensorMath::through_cache(const at::Tensor& rows_THD, RoundRows round) const {
  if (kv_cache_ == nullptr) return rows_THD;
  at::Tensor rows_SD = rows_THD.cpu().contiguous().view({-1, config_.head_dim}).clone();
  (kv_cache_->*round)(view_of<float>(rows_SD));
  return rows_SD.view(rows_THD.sizes()).to(device_);
}

at::Tensor TensorMath::heads_of(const at::Tensor& rows_TN, Index heads,
                                const std::vector<model::TensorSpec>& head_norm) const {
  const at::Tensor rows_THD =
      rows_TN.to(at::kFloat).reshape({rows_TN.size(0), heads, config_.head_dim});
  return head_norm.empty() ? rows_THD : norm(head_norm.front(), rows_THD);
}

at::Tensor TensorMath::gated(model::SiteKind kind, Index expert,
                             const at::Tensor& normed_TH) const {
  const std::vector<Linear>& linears = this->linears(kind, expert);
  at::Tensor gate_TN = linears.front()(normed_TH);
  if (linears.size() == 2) {
    gate(config_.hidden_act, gate_TN, linears.back()(normed_TH));
    return gate_TN;
  }
  const std::vector<at::Tensor> halves = gate_TN.chunk(2, 1);  // gate above up
  gate_TN = halves[0].contiguous();
  gate(config_.hidden_act, gate_TN, halves[1]);
  return gate_TN;
}

at::Tensor TensorMath::output(model::SiteKind kind, const at::Tensor& inputs_TK) const {
  const at::Tensor out_TH = linears(kind).front()(inputs_TK).to(at::kFloat);
  const std::vector<model::TensorSpec>& post_norm =
      kind == model::SiteKind::kAttnOut ? block_.attn_post_norm : block_.mlp_post_norm;
  return post_norm.empty() ? out_TH : norm(post_norm.front(), out_TH);
}

}  // namespace calque::forward
