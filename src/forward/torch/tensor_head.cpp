#include "forward/torch/tensor_head.h"

#include <ATen/ops/mm.h>

#include "forward/torch/tensor_guard.h"
#include "forward/torch/tensor_math.h"
#include "forward/torch/tensors.h"

namespace calque::forward {

TensorHead::TensorHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
                       MatrixView<const float> head_VH, const at::Device& device,
                       at::ScalarType compute)
    : norm_H_(on_device(norm_1H, device, at::kFloat).squeeze(0)),
      head_VH_(on_device(head_VH, device, compute)),
      norm_offset_(config.norm_plus_one ? 1.0 : 0.0),
      norm_eps_(config.rms_norm_eps),
      softcap_(config.logit_softcap) {}

void TensorHead::logits(const HiddenStates& hidden, Index sequence, Index first,
                        MatrixView<float> logits_TV) const {
  guarded(head_VH_.device(), [&] {
    const auto& states = dynamic_cast<const TensorStates&>(hidden);
    const at::Tensor rows_TH = states.sequence_TH(sequence).narrow(0, first, logits_TV.rows());
    const at::Tensor normed_TH = rms_norm(rows_TH, norm_H_, norm_offset_, norm_eps_);
    at::Tensor made_TV = at::mm(normed_TH.to(head_VH_.scalar_type()), head_VH_.t()).to(at::kFloat);
    if (softcap_ != 0) made_TV.div_(softcap_).tanh_().mul_(softcap_);
    borrow(logits_TV).copy_(made_TV);
  });
}

}  // namespace calque::forward
