#include "forward/cpu/head.h"

#include "forward/cpu/sequences.h"
#include "forward/torch/tensors.h"

namespace calque::forward {

template <>
void TorchHead<float>::project(MatrixView<const float> normed_TH,
                               MatrixView<float> logits_TV) const {
  linear_.apply(normed_TH, logits_TV);
}

template <>
void TorchHead<BFloat16>::project(MatrixView<const BFloat16> normed_TH,
                                  MatrixView<float> logits_TV) const {
  const at::Tensor rounded = new_tensor<BFloat16>(logits_TV.rows(), logits_TV.cols());
  linear_.apply(normed_TH, view_of<BFloat16>(rounded));
  borrow(logits_TV).copy_(rounded);
}

template <typename T>
TorchHead<T>::TorchHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
                        MatrixView<const float> head_VH)
    : norm_1H_(Matrix<float>::copy_of(norm_1H)),
      head_VH_(std::is_same_v<T, float> ? Matrix<float>::copy_of(head_VH) : Matrix<float>()),
      linear_(std::is_same_v<T, float> ? head_VH_.view() : head_VH, {}),
      norm_{norm_1H_.view(), config.norm_plus_one ? 1.0f : 0.0f,
            static_cast<float>(config.rms_norm_eps)},
      softcap_(static_cast<float>(config.logit_softcap)) {}

template <typename T>
void TorchHead<T>::logits(const HiddenStates& hidden, Index sequence, Index first,
                          MatrixView<float> logits_TV) const {
  translate_errors([&] {
    const OneThread guard;
    const auto& states = dynamic_cast<const TorchHiddenStates&>(hidden);
    const MatrixView<const float> rows_TH =
        states.sequence_TH(sequence).rows(first, logits_TV.rows());
    const at::Tensor normed = new_tensor<T>(rows_TH.rows(), rows_TH.cols());
    rms_norm_rows(rows_TH, norm_, view_of<T>(normed));
    states.release(sequence, first, rows_TH.rows());
    project(view_of<T>(normed), logits_TV);
    if (softcap_ == 0) return;
    at::Tensor capped = borrow(logits_TV);
    capped.div_(softcap_).tanh_().mul_(softcap_);
  });
}

template class TorchHead<float>;
template class TorchHead<BFloat16>;

}  // namespace calque::forward
