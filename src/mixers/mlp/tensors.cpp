#include "mixers/mlp/tensors.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>

namespace calque::forward {
namespace {

void gate(const model::Activation& activation, at::Tensor& gate_TN, const at::Tensor& up_TN) {
  if (const model::ClampedGate& clamped = activation.clamped) {
    gate_TN.clamp_max_(clamped.limit);
    gate_TN.mul_(at::sigmoid(gate_TN * clamped.slope));
    gate_TN.mul_(up_TN.clamp(-clamped.limit, clamped.limit).add_(1.0));
    return;
  }
  if (activation.act == "silu")
    at::silu_(gate_TN);
  else
    at::gelu_(gate_TN, "tanh");
  gate_TN.mul_(up_TN);
}

class TensorMlp : public TwoSiteTensorMixer {
 public:
  explicit TensorMlp(const TensorHalf& half)
      : TwoSiteTensorMixer(half), spec_(half.mixer<model::Mlp>()) {}

 private:
  at::Tensor inner(const at::Tensor& normed_TH, const TensorBatch&) const override {
    const std::vector<Linear>& linears = this->linears(model::Mlp::kIn);
    const at::Tensor gate_TN = linears.front()(normed_TH);
    return gated(spec_.activation, gate_TN,
                 linears.size() == 2 ? linears.back()(normed_TH) : at::Tensor());
  }

  const model::Mlp& spec_;
};

}  // namespace

at::Tensor gated(const model::Activation& activation, at::Tensor gate_TN, const at::Tensor& up_TN) {
  if (up_TN.defined()) {
    gate(activation, gate_TN, up_TN);
    return gate_TN;
  }
  const std::vector<at::Tensor> halves = gate_TN.chunk(2, 1);
  gate_TN = halves[0].contiguous();
  gate(activation, gate_TN, halves[1]);
  return gate_TN;
}

std::unique_ptr<TensorMixer> make_tensor_mlp(const TensorHalf& half) {
  return std::make_unique<TensorMlp>(half);
}

}  // namespace calque::forward
