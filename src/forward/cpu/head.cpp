#include "forward/cpu/head.h"

#include "calque/core/openmp.h"
#include "forward/cpu/activation.h"
#include "forward/cpu/sequences.h"

namespace calque::forward {

template <>
void CpuHead<float>::project(MatrixView<const float> normed_TH, MatrixView<float> logits_TV) const {
  linear_.apply(normed_TH, logits_TV);
}

template <>
void CpuHead<BFloat16>::project(MatrixView<const BFloat16> normed_TH,
                                MatrixView<float> logits_TV) const {
  auto rounded_TV = Matrix<BFloat16>::uninitialized(logits_TV.rows(), logits_TV.cols());
  linear_.apply(normed_TH, rounded_TV);
  widen_rows<BFloat16>(rounded_TV.view(), logits_TV);
}

template <typename T>
CpuHead<T>::CpuHead(const model::ModelConfig& config, MatrixView<const float> norm_1H,
                    MatrixView<const float> head_VH)
    : norm_1H_(Matrix<float>::copy_of(norm_1H)),
      head_VH_(std::is_same_v<T, float> ? Matrix<float>::copy_of(head_VH) : Matrix<float>()),
      linear_(std::is_same_v<T, float> ? head_VH_.view() : head_VH, {}),
      norm_{norm_1H_.view(), config.norm_plus_one ? 1.0f : 0.0f,
            static_cast<float>(config.rms_norm_eps)},
      softcap_(static_cast<float>(config.logit_softcap)) {}

template <typename T>
void CpuHead<T>::logits(const HiddenStates& hidden, Index sequence, Index first,
                        MatrixView<float> logits_TV) const {
  const OneOpenMpThread guard;
  const auto& states = dynamic_cast<const CpuStates&>(hidden);
  const MatrixView<const float> rows_TH =
      states.sequence_TH(sequence).rows(first, logits_TV.rows());
  auto normed_TH = Matrix<T>::uninitialized(rows_TH.rows(), rows_TH.cols());
  rms_norm_rows<T>(rows_TH, norm_, normed_TH);
  states.release(sequence, first, rows_TH.rows());
  project(normed_TH.view(), logits_TV);
  if (softcap_ != 0) cap_logits(softcap_, logits_TV);
}

template class CpuHead<float>;
template class CpuHead<BFloat16>;

}  // namespace calque::forward
