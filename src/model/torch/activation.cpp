#include "model/torch/activation.h"

#include <ATen/ops/gelu.h>
#include <ATen/ops/silu.h>

#include "model/torch/tensors.h"

namespace calque::model {

template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  at::Tensor gate = borrow(gate_TN);
  if (act == "silu")
    at::silu_(gate);
  else
    at::gelu_(gate, "tanh");
  gate.mul_(borrow(up_TN));
}

template void gate(const std::string&, MatrixView<const float>, MatrixView<float>);
template void gate(const std::string&, MatrixView<const BFloat16>, MatrixView<BFloat16>);

}  // namespace calque::model
