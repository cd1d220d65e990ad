#include "forward/cpu/activation.h"

#include <ATen/ops/gelu.h>

#include "forward/cpu/rows.h"
#include "forward/torch/tensors.h"
#include "forward/cpu/vector_math.h"

namespace calque::forward {
namespace {

template <typename T>
void gate_with_silu(MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  for (Index t = 0; t < gate_TN.rows(); ++t) {
    const T* const up = up_TN.row(t);
    T* const gate = gate_TN.row(t);
    for (Index i = 0; i < gate_TN.cols(); ++i)
      store(silu(widened(gate[i])) * widened(up[i]), gate[i]);
  }
}

}  // namespace

template <typename T>
void gate(const std::string& act, MatrixView<const T> up_TN, MatrixView<T> gate_TN) {
  if (act == "silu") return gate_with_silu(up_TN, gate_TN);
  at::Tensor gate = borrow(gate_TN);
  at::gelu_(gate, "tanh");
  gate.mul_(borrow(up_TN));
}

template void gate(const std::string&, MatrixView<const float>, MatrixView<float>);
template void gate(const std::string&, MatrixView<const BFloat16>, MatrixView<BFloat16>);

}  // namespace calque::forward
