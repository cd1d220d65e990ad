#pragma once

#include <functional>

#include "forward/cpu/block_math.h"
#include "forward/cpu/sequences.h"

namespace calque::forward {

// One block over all sequences.
template <typename T>
class BlockPass {
 public:
  BlockPass(const model::BlockSpec& block, model::BlockWeights& weights,
            const model::ModelConfig& config, const RunnerOptions& options, CpuStates& hidden)
      : block_(block),
        weights_(weights),
        threads_(options.threads),
        scratch_(*options.scratch),
        hidden_(hidden),
        math_(block, weights, config, hidden.rotary(block), options.kv_cache.get()) {}

  // Every sequence in one piece.
  void run();
  // The same steps, each over all sequences before the next. What a step is done with is released:
  // a few sequences a thread and one observed piece are in memory, wherever the rest lives.
  void run_staged(BlockObserver& observer);

 private:
  using Step = void (BlockMath<T>::*)(MatrixView<const float>, MatrixView<T>) const;

  void each_sequence(const std::function<void(Index)>& body);
  void show(BlockObserver& observer, const model::SiteSpec& site, const SequenceRows<T>& inputs);
  void finish_site(BlockObserver& observer, const model::SiteSpec& site);
  void show_norm(BlockObserver& observer, model::SiteKind kind);
  void norm_rows(model::SiteKind kind, MatrixView<const float> hidden_TH, MatrixView<T> out_TH);
  void run_half(BlockObserver& observer, model::SiteKind kind, Index width, Step step);

  // What all stages of a half with experts start from and add to.
  struct Experts {
    SequenceRows<T> normed;
    SequenceRows<float> answers;
    std::vector<Routing> routing_B;
    const Routing& routing(Index sequence) const {
      return routing_B[static_cast<std::size_t>(sequence)];
    }
  };
  void run_experts(BlockObserver& observer);
  Experts start_experts();
  SequenceRows<T> routed_to(Index expert, const Experts& state);  // the rows of one expert
  void add_answers(const Experts& state);
  void run_expert(BlockObserver& observer, const model::SiteSpec& site, Experts& state);
  void run_shared(BlockObserver& observer, const model::SiteSpec& site, Experts& state);

  const model::BlockSpec& block_;
  model::BlockWeights& weights_;
  int threads_;
  io::ScratchSpace& scratch_;
  CpuStates& hidden_;
  BlockMath<T> math_;
};

}  // namespace calque::forward
