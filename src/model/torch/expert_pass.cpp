#include "model/torch/block_pass.h"
#include "model/torch/rows.h"
#include "model/torch/tensors.h"

// The stages of a half with experts. Products are of one sequence's rows at a time, as in a run in
// one piece: another number of rows could give other bits.
namespace calque::model {

template <typename T>
void BlockPass<T>::run_experts(BlockObserver& observer) {
  Experts state = start_experts();
  for (const SiteSpec& site : block_.sites) {
    if (site.kind == SiteKind::kExpertIn) {
      show(observer, site, routed_to(site.expert, state).rows_RH.view());
      finish_site(observer, site);
    }
    if (site.kind == SiteKind::kExpertOut) run_expert(observer, site, state);
    if (site.kind == SiteKind::kMlpOut) run_shared(observer, site, state);
  }
  add_rows<float>(state.answers_TH.view(), hidden_.all_TH());
}

template <typename T>
auto BlockPass<T>::start_experts() -> Experts {
  const Index width = hidden_.all_TH().cols();
  Experts state{Matrix<T>::uninitialized(hidden_.rows(), width),
                Matrix<float>(hidden_.rows(), width),
                std::vector<Routing>(static_cast<std::size_t>(hidden_.sequences()))};
  each_sequence([&](Index s) {
    const MatrixView<T> normed_TH =
        state.normed_TH.view().rows(hidden_.first(s), hidden_.length(s));
    math_.mlp_norm(hidden_.sequence_TH(s), normed_TH);
    state.routing_B[static_cast<std::size_t>(s)] = math_.route_rows(normed_TH);
  });
  return state;
}

template <typename T>
auto BlockPass<T>::routed_to(Index expert, const Experts& state) const -> Routed {
  std::vector<Index> rows;
  Routed routed;
  routed.firsts_B = {0};
  for (Index s = 0; s < hidden_.sequences(); ++s) {
    const Routing& routing = state.routing_B[static_cast<std::size_t>(s)];
    if (!routing.experts.empty())
      for (const Index row : routing.experts[static_cast<std::size_t>(expert)].rows)
        rows.push_back(hidden_.first(s) + row);
    routed.firsts_B.push_back(static_cast<Index>(rows.size()));
  }
  routed.rows_RH =
      Matrix<T>::uninitialized(static_cast<Index>(rows.size()), state.normed_TH.cols());
  gather<T>(state.normed_TH.view(), rows, routed.rows_RH);
  return routed;
}

template <typename T>
void BlockPass<T>::run_expert(BlockObserver& observer, const SiteSpec& site, Experts& state) {
  Routed routed = routed_to(site.expert, state);
  Matrix<T> inputs_RK = Matrix<T>::uninitialized(routed.rows_RH.rows(), site.channels);
  const auto each_routed = [&](const std::function<void(Index)>& body) {
    each_sequence([&](Index s) {
      if (routed.of(routed.rows_RH, s).rows() > 0) body(s);
    });
  };
  each_routed([&](Index s) {
    math_.gated(SiteKind::kExpertIn, site.expert, routed.of(routed.rows_RH, s),
                routed.of(inputs_RK, s));
  });
  show(observer, site, inputs_RK.view());
  finish_site(observer, site);
  each_routed([&](Index s) {
    math_.add_expert(site.expert, state.routing_B[static_cast<std::size_t>(s)],
                     routed.of(inputs_RK, s),
                     state.answers_TH.view().rows(hidden_.first(s), hidden_.length(s)));
  });
}

template <typename T>
void BlockPass<T>::run_shared(BlockObserver& observer, const SiteSpec& site, Experts& state) {
  Matrix<T> inputs_TK = Matrix<T>::uninitialized(hidden_.rows(), site.channels);
  const auto of = [&](auto& matrix, Index s) {
    return matrix.view().rows(hidden_.first(s), hidden_.length(s));
  };
  each_sequence([&](Index s) {
    math_.gated(SiteKind::kMlpIn, -1, of(state.normed_TH, s), of(inputs_TK, s));
  });
  show(observer, site, inputs_TK.view());
  finish_site(observer, site);
  each_sequence([&](Index s) {
    math_.add_shared(of(state.normed_TH, s), of(inputs_TK, s), of(state.answers_TH, s));
  });
}

#define CALQUE_INSTANTIATE(T)                                                         \
  template void BlockPass<T>::run_experts(BlockObserver&);                            \
  template BlockPass<T>::Experts BlockPass<T>::start_experts();                       \
  template BlockPass<T>::Routed BlockPass<T>::routed_to(Index, const Experts&) const; \
  template void BlockPass<T>::run_expert(BlockObserver&, const SiteSpec&, Experts&);  \
  template void BlockPass<T>::run_shared(BlockObserver&, const SiteSpec&, Experts&);
CALQUE_INSTANTIATE(float)
CALQUE_INSTANTIATE(BFloat16)
#undef CALQUE_INSTANTIATE

}  // namespace calque::model
