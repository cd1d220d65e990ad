#include "model/torch/linear.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "model/torch/gemm.h"

namespace calque::model {

template <typename T>
PreparedLinear<T>::PreparedLinear(MatrixView<const float> weight_NK,
                                  MatrixView<const float> bias_1N)
    : weight_NK_(borrow(weight_NK).to(kScalarType<T>)) {
  if (!bias_1N.empty()) bias_1N_ = borrow(bias_1N).to(kScalarType<T>);
}

template <>
void PreparedLinear<float>::apply(MatrixView<const float> inputs_TK,
                                  MatrixView<float> outputs_TN) const {
  const bool biased = bias_1N_.defined();
  if (biased) {
    const float* const bias = view_of<float>(bias_1N_).data();
    for (Index t = 0; t < outputs_TN.rows(); ++t)
      std::copy_n(bias, outputs_TN.cols(), outputs_TN.row(t));
  }
  multiply_transposed(inputs_TK, view_of<float>(weight_NK_), outputs_TN, biased);
}

template <>
void PreparedLinear<BFloat16>::apply(MatrixView<const BFloat16> inputs_TK,
                                     MatrixView<BFloat16> outputs_TN) const {
  at::Tensor outputs = borrow(outputs_TN);
  const at::Tensor inputs = borrow(inputs_TK);
  if (bias_1N_.defined())
    at::addmm_out(outputs, bias_1N_, inputs, weight_NK_.t());
  else
    at::mm_out(outputs, inputs, weight_NK_.t());
}

template <typename T>
std::vector<PreparedLinear<T>> prepare(const SiteSpec& site, const BlockWeights& weights) {
  std::vector<PreparedLinear<T>> result;
  for (const LinearSpec& linear : site.readers) {
    MatrixView<const float> bias_1N;
    if (!linear.bias.empty()) bias_1N = weights.at(linear.bias.front().name);
    result.emplace_back(weights.at(linear.weight.name), bias_1N);
  }
  return result;
}

template class PreparedLinear<float>;
template class PreparedLinear<BFloat16>;
template std::vector<PreparedLinear<float>> prepare(const SiteSpec&, const BlockWeights&);
template std::vector<PreparedLinear<BFloat16>> prepare(const SiteSpec&, const BlockWeights&);

}  // namespace calque::model
