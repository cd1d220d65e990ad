#include <algorithm>
#include <utility>

#include "forward/cpu/block_pass.h"
#include "forward/cpu/rows.h"

// The stages of a half with experts. Products are of one sequence's rows at a time, as in a run in
// one piece: another number of rows could give other bits.
namespace calque::forward {

template <typename T>
void BlockPass<T>::run_experts(BlockObserver& observer) {
  Experts state = start_experts();
  for (const model::SiteSpec& site : block_.sites) {
    if (site.kind == model::SiteKind::kExpertIn) {
      show(observer, site, routed_to(site.expert, state));
      finish_site(observer, site);
    }
    if (site.kind == model::SiteKind::kExpertOut) run_expert(observer, site, state);
    if (site.kind == model::SiteKind::kMlpOut) run_shared(observer, site, state);
  }
  if (observer.wants_output()) add_answers(state);
}

template <typename T>
auto BlockPass<T>::start_experts() -> Experts {
  const Index width = hidden_.all_TH().cols();
  Experts state{{scratch_, hidden_.firsts_B(), width},
                {scratch_, hidden_.firsts_B(), width},
                std::vector<Routing>(static_cast<std::size_t>(hidden_.sequences()))};
  each_sequence([&](Index s) {
    const MatrixView<T> normed_TH = state.normed.of(s);
    math_.mlp_norm(hidden_.sequence_TH(s), normed_TH);
    state.routing_B[static_cast<std::size_t>(s)] = math_.route_rows(normed_TH);
    const MatrixView<float> answers_TH = state.answers.of(s);
    std::fill_n(answers_TH.data(), answers_TH.size(), 0.0f);
    hidden_.release(s);
    state.normed.release(s);
    state.answers.release(s);
  });
  return state;
}

template <typename T>
SequenceRows<T> BlockPass<T>::routed_to(Index expert, const Experts& state) {
  const auto rows_of = [&](Index s) -> const std::vector<Index>& {
    return state.routing(s).experts[static_cast<std::size_t>(expert)].rows;
  };
  std::vector<Index> firsts_B{0};
  for (Index s = 0; s < hidden_.sequences(); ++s) {
    const bool empty = state.routing(s).experts.empty();
    firsts_B.push_back(firsts_B.back() + (empty ? 0 : static_cast<Index>(rows_of(s).size())));
  }
  SequenceRows<T> routed(scratch_, std::move(firsts_B), state.normed.all().cols());
  each_sequence([&](Index s) {
    if (routed.length(s) == 0) return;
    gather<T>(state.normed.of(s), rows_of(s), routed.of(s));
    state.normed.release(s);
    routed.release(s);
  });
  return routed;
}

template <typename T>
void BlockPass<T>::run_expert(BlockObserver& observer, const model::SiteSpec& site,
                              Experts& state) {
  const SequenceRows<T> routed = routed_to(site.expert, state);
  const SequenceRows<T> inputs(scratch_, routed.firsts_B(), site.channels);
  const auto each_routed = [&](const std::function<void(Index)>& body) {
    each_sequence([&](Index s) {
      if (routed.length(s) > 0) body(s);
    });
  };
  each_routed([&](Index s) {
    math_.gated(model::SiteKind::kExpertIn, site.expert, routed.of(s), inputs.of(s));
    routed.release(s);
    inputs.release(s);
  });
  show(observer, site, inputs);
  finish_site(observer, site);
  if (!observer.wants_output()) return;
  each_routed([&](Index s) {
    math_.add_expert(site.expert, state.routing(s), inputs.of(s), state.answers.of(s));
    inputs.release(s);
    state.answers.release(s);
  });
}

template <typename T>
void BlockPass<T>::run_shared(BlockObserver& observer, const model::SiteSpec& site,
                              Experts& state) {
  const SequenceRows<T> inputs(scratch_, hidden_.firsts_B(), site.channels);
  each_sequence([&](Index s) {
    math_.gated(model::SiteKind::kMlpIn, -1, state.normed.of(s), inputs.of(s));
    state.normed.release(s);
    inputs.release(s);
  });
  show(observer, site, inputs);
  finish_site(observer, site);
  if (!observer.wants_output()) return;
  each_sequence([&](Index s) {
    math_.add_shared(state.normed.of(s), inputs.of(s), state.answers.of(s));
    state.normed.release(s);
    inputs.release(s);
    state.answers.release(s);
  });
}

template <typename T>
void BlockPass<T>::add_answers(const Experts& state) {
  each_sequence([&](Index s) {
    add_rows<float>(state.answers.of(s), hidden_.sequence_TH(s));
    hidden_.release(s);
    state.answers.release(s);
  });
}

#define CALQUE_INSTANTIATE(T)                                                               \
  template void BlockPass<T>::run_experts(BlockObserver&);                                  \
  template BlockPass<T>::Experts BlockPass<T>::start_experts();                             \
  template SequenceRows<T> BlockPass<T>::routed_to(Index, const Experts&);                  \
  template void BlockPass<T>::run_expert(BlockObserver&, const model::SiteSpec&, Experts&); \
  template void BlockPass<T>::run_shared(BlockObserver&, const model::SiteSpec&, Experts&); \
  template void BlockPass<T>::add_answers(const Experts&);
CALQUE_INSTANTIATE(float)
CALQUE_INSTANTIATE(BFloat16)
#undef CALQUE_INSTANTIATE

}  // namespace calque::forward
