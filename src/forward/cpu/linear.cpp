#include "forward/cpu/linear.h"

#include <algorithm>

#include "forward/cpu/gemm.h"

namespace calque::forward {

template <>
void PreparedLinear<float>::apply(MatrixView<const float> inputs_TK,
                                  MatrixView<float> outputs_TN) const {
  const bool biased = !bias_1N_.empty();
  if (biased)
    for (Index t = 0; t < outputs_TN.rows(); ++t)
      std::copy_n(bias_1N_.data(), outputs_TN.cols(), outputs_TN.row(t));
  multiply_transposed(inputs_TK, weight_NK_, outputs_TN, biased);
}

template <>
void PreparedLinear<BFloat16>::apply(MatrixView<const BFloat16> inputs_TK,
                                     MatrixView<BFloat16> outputs_TN) const {
  weight_NK_.apply(inputs_TK, bias_1N_, outputs_TN);
}

template <typename T>
std::vector<PreparedLinear<T>> prepare(const model::SiteSpec& site, const model::BlockWeights& weights) {
  std::vector<PreparedLinear<T>> result;
  for (const model::LinearSpec& linear : site.readers) {
    MatrixView<const float> bias_1N;
    if (!linear.bias.empty()) bias_1N = weights.at(linear.bias.front().name);
    result.emplace_back(weights.at(linear.weight.name), bias_1N);
  }
  return result;
}

template class PreparedLinear<float>;
template class PreparedLinear<BFloat16>;
template std::vector<PreparedLinear<float>> prepare(const model::SiteSpec&, const model::BlockWeights&);
template std::vector<PreparedLinear<BFloat16>> prepare(const model::SiteSpec&, const model::BlockWeights&);

}  // namespace calque::forward
