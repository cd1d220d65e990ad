#pragma once

#include <functional>

#include "model/torch/block_math.h"
#include "model/torch/sequences.h"

namespace calque::model {

// One block over all sequences.
template <typename T>
class BlockPass {
 public:
  BlockPass(const BlockSpec& block, BlockWeights& weights, const ModelConfig& config, int threads,
            TorchHiddenStates& hidden)
      : block_(block),
        weights_(weights),
        threads_(threads),
        hidden_(hidden),
        math_(block, weights, config, hidden.rotary(block)) {}

  // Every sequence in one piece.
  void run();
  // The same steps, each over all sequences before the next.
  void run_staged(BlockObserver& observer);

 private:
  using Step = void (BlockMath<T>::*)(MatrixView<const float>, MatrixView<T>) const;

  void each_sequence(const std::function<void(Index)>& body);
  void show(BlockObserver& observer, const SiteSpec& site, MatrixView<const T> inputs_TK);
  void finish_site(BlockObserver& observer, const SiteSpec& site);
  void show_norm(BlockObserver& observer, SiteKind kind);
  void norm_rows(SiteKind kind, MatrixView<const float> hidden_TH, MatrixView<T> out_TH);
  void run_half(BlockObserver& observer, SiteKind kind, Index width, Step step);

  // What all stages of a half with experts start from and add to.
  struct Experts {
    Matrix<T> normed_TH;
    Matrix<float> answers_TH;
    std::vector<Routing> routing_B;
  };
  // Rows of one expert, sequence by sequence.
  struct Routed {
    Matrix<T> rows_RH;
    std::vector<Index> firsts_B;  // one more than there are sequences
    MatrixView<T> of(Matrix<T>& rows, Index sequence) const {
      const Index first = firsts_B[static_cast<std::size_t>(sequence)];
      return rows.view().rows(first, firsts_B[static_cast<std::size_t>(sequence) + 1] - first);
    }
  };
  void run_experts(BlockObserver& observer);
  Experts start_experts();
  Routed routed_to(Index expert, const Experts& state) const;
  void run_expert(BlockObserver& observer, const SiteSpec& site, Experts& state);
  void run_shared(BlockObserver& observer, const SiteSpec& site, Experts& state);

  const BlockSpec& block_;
  BlockWeights& weights_;
  int threads_;
  TorchHiddenStates& hidden_;
  BlockMath<T> math_;
};

}  // namespace calque::model
