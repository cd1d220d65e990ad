#include "forward/cpu/block_math.h"
#include "forward/cpu/rows.h"

// The half of a block that has experts. Their answers are summed in fp32 in the experts' order, the
// shared one last, and then added to the residual stream.
namespace calque::forward {
namespace {

template <typename T>
Matrix<float> widened_rows(MatrixView<const T> rows_TH) {
  Matrix<float> result = Matrix<float>::uninitialized(rows_TH.rows(), rows_TH.cols());
  widen_rows<T>(rows_TH, result);
  return result;
}

template <typename T>
void add_weighted(const T* from, float weight, Index count, float* to) {
  for (Index i = 0; i < count; ++i) to[i] += weight * widened(from[i]);
}

}  // namespace

template <typename T>
Routing BlockMath<T>::route_rows(MatrixView<const T> normed_TH) const {
  const model::ExpertsSpec& spec = block_.experts.front();
  return route(spec, weights_.at(spec.router.name), widened_rows(normed_TH));
}

template <typename T>
void BlockMath<T>::add_expert(Index expert, const Routing& routing, MatrixView<const T> inputs_TK,
                              MatrixView<float> sum_TH) const {
  const Routing::Expert& routed = routing.experts[static_cast<std::size_t>(expert)];
  down(model::SiteKind::kExpertOut, expert, inputs_TK, [&](Index first, MatrixView<const T> out) {
    for (Index r = 0; r < out.rows(); ++r) {
      const auto i = static_cast<std::size_t>(first + r);
      add_weighted(out.row(r), routed.weights[i], sum_TH.cols(), sum_TH.row(routed.rows[i]));
    }
  });
}

template <typename T>
void BlockMath<T>::add_shared(MatrixView<const T> normed_TH, MatrixView<const T> inputs_TK,
                              MatrixView<float> sum_TH) const {
  const std::vector<model::TensorSpec>& gate = block_.experts.front().shared_gate;
  std::vector<float> weights(static_cast<std::size_t>(sum_TH.rows()), 1.0f);
  if (!gate.empty())
    weights = shared_weights(weights_.at(gate.front().name), widened_rows(normed_TH));
  down(model::SiteKind::kMlpOut, -1, inputs_TK, [&](Index first, MatrixView<const T> out) {
    for (Index r = 0; r < out.rows(); ++r)
      add_weighted(out.row(r), weights[static_cast<std::size_t>(first + r)], sum_TH.cols(),
                   sum_TH.row(first + r));
  });
}

template <typename T>
void BlockMath<T>::add_experts(MatrixView<const float> hidden_TH, MatrixView<float> sum_TH) const {
  Matrix<T> normed_TH = Matrix<T>::uninitialized(hidden_TH.rows(), hidden_TH.cols());
  mlp_norm(hidden_TH, normed_TH);
  const Routing routing = route_rows(normed_TH.view());
  Matrix<float> answers_TH(hidden_TH.rows(), hidden_TH.cols());
  for (Index e = 0; e < block_.experts.front().count; ++e) {
    const std::vector<Index>& rows = routing.experts[static_cast<std::size_t>(e)].rows;
    if (rows.empty()) continue;
    Matrix<T> routed_RH =
        Matrix<T>::uninitialized(static_cast<Index>(rows.size()), hidden_TH.cols());
    gather<T>(normed_TH.view(), rows, routed_RH);
    Matrix<T> inner_RK = Matrix<T>::uninitialized(
        routed_RH.rows(), block_.site(model::SiteKind::kExpertOut, e).channels);
    gated(model::SiteKind::kExpertIn, e, routed_RH.view(), inner_RK);
    add_expert(e, routing, inner_RK.view(), answers_TH);
  }
  if (block_.has_site(model::SiteKind::kMlpOut)) {
    Matrix<T> inner_TK = Matrix<T>::uninitialized(hidden_TH.rows(), mlp_width());
    gated(model::SiteKind::kMlpIn, -1, normed_TH.view(), inner_TK);
    add_shared(normed_TH.view(), inner_TK.view(), answers_TH);
  }
  add_rows<float>(answers_TH.view(), sum_TH);
}

#define CALQUE_INSTANTIATE(T)                                                        \
  template Routing BlockMath<T>::route_rows(MatrixView<const T>) const;              \
  template void BlockMath<T>::add_expert(Index, const Routing&, MatrixView<const T>, \
                                         MatrixView<float>) const;                   \
  template void BlockMath<T>::add_shared(MatrixView<const T>, MatrixView<const T>,   \
                                         MatrixView<float>) const;                   \
  template void BlockMath<T>::add_experts(MatrixView<const float>, MatrixView<float>) const;
CALQUE_INSTANTIATE(float)
CALQUE_INSTANTIATE(BFloat16)
#undef CALQUE_INSTANTIATE

}  // namespace calque::forward
