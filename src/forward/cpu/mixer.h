#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/cpu/products.h"
#include "forward/cpu/rows.h"
#include "forward/cpu/states.h"

// The common part of the mixers' passes on the CPU.
namespace calque::forward {

// The memory of one thread between a block's inputs and outputs. Kept from one sequence to the
// next: memory that is freed goes back to the system, and comes as pages that have to be cleared.
// Mixers share it: a block needs what its largest one does.
template <typename T>
class Workspace {
 public:
  // kOwn, kOwn + 1, ...: whatever else a mixer needs.
  enum Slot : std::size_t { kNormed, kLeft, kRight, kThird, kInner, kOwn };

  // Undefined contents; valid until the slot is asked for again.
  MatrixView<T> matrix(std::size_t slot, Index rows, Index cols) {
    return of(buffers_, slot).matrix(rows, cols);
  }
  // Slots of their own, from 0.
  MatrixView<float> matrix_f32(std::size_t slot, Index rows, Index cols) {
    return of(buffers_f32_, slot).matrix(rows, cols);
  }

 private:
  template <typename E>
  static Buffer<E>& of(std::deque<Buffer<E>>& buffers, std::size_t slot) {
    while (buffers.size() <= slot) buffers.emplace_back();
    return buffers[slot];
  }

  std::deque<Buffer<T>> buffers_;  // they stay where they are
  std::deque<Buffer<float>> buffers_f32_;
};

// Workspaces of the threads that are in a block at the same time.
template <typename T>
class WorkspacePool {
 public:
  class Lease {
   public:
    explicit Lease(WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
    ~Lease() { pool_.give(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace<T>* operator->() const { return workspace_.get(); }
    Workspace<T>& operator*() const { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<Workspace<T>> workspace_;
  };

  // Frees those that nobody holds.
  void clear() {
    const std::lock_guard lock(mutex_);
    free_.clear();
  }

 private:
  std::unique_ptr<Workspace<T>> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace<T>>();
    std::unique_ptr<Workspace<T>> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }
  void give(std::unique_ptr<Workspace<T>> workspace) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace<T>>> free_;
};

// body(first, count) for consecutive chunks of rows.
template <typename Body>
void each_chunk(Index rows, const Body& body) {
  for (Index first = 0; first < rows; first += kChunkRows)
    body(first, std::min(kChunkRows, rows - first));
}

// A half of a block that is to be run.
template <typename T>
struct CpuHalf {
  const model::BlockSpec& block;
  const model::HalfSpec& half;
  const model::BlockWeights& weights;
  const CpuStates& states;
  CpuStates* keeps;                 // it leaves rows for later blocks there; null: in a trial
  const KvCacheRounding* kv_cache;  // null: none in this block
  const InputGrids* inputs;         // roundings of linears' inputs; null: none
  WorkspacePool<T>& workspaces;
  int threads = 1;  // that prepare its linears

  template <typename Spec>
  const Spec& mixer() const {
    assert(half.mixer->kind() == Spec::kKind);
    return static_cast<const Spec&>(*half.mixer);
  }
};

// The norm with its weight in the block.
NormWeight norm_weight(const model::NormSpec& spec, const model::BlockWeights& weights);

template <typename T>
class StagedPass;

// One half, norm -> mixer -> norm -> add, on the CPU; T is the compute type. What a subclass does
// runs on the calling thread, chunk by chunk of a sequence's rows, always cut at the same places:
// the bits do not depend on who calls for which step.
template <typename T>
class CpuMixer {
 public:
  explicit CpuMixer(const CpuHalf<T>& half);
  virtual ~CpuMixer() = default;

  // Takes the weights of the readers of the half's sites as they are now.
  void prepare(std::size_t site);
  void prepare_all();

  // Adds what the half makes of one sequence in one piece. Both may be the same memory.
  virtual void add(Index sequence, MatrixView<const float> hidden_TH,
                   MatrixView<float> sum_TH) const = 0;
  // Runs all sequences, cut at the half's sites.
  virtual void run_staged(StagedPass<T>& pass) = 0;

  const model::SiteSpec& site(std::size_t index) const {
    return half_.block.sites[half_.half.first_site + index];
  }
  // The half's first norm.
  void norm(MatrixView<const float> hidden_TH, MatrixView<T> out_TH) const;

 protected:
  using Lease = typename WorkspacePool<T>::Lease;
  using TakeRows = std::function<void(Index first, MatrixView<const T> rows)>;

  const std::vector<PreparedLinear<T>>& linears(std::size_t site) const { return linears_[site]; }
  NormWeight norm_of(const model::NormSpec& spec) const { return norm_weight(spec, half_.weights); }
  MatrixView<const float> weight(const model::TensorSpec& spec) const {
    return half_.weights.at(spec.name);
  }
  // Computes the site's one linear, a chunk of its inputs' rows at a time.
  void apply_linear(std::size_t site, MatrixView<const T> inputs_TK, const TakeRows& take) const;
  // Adds what the half's last linear leaves, normed where the half norms it.
  template <typename E>
  void add_output(MatrixView<const E> output_TH, MatrixView<float> sum_TH) const;

  CpuHalf<T> half_;

 private:
  std::vector<std::vector<PreparedLinear<T>>> linears_;
};

// A mixer of two sites: the first one's linears and what comes between make the inputs of the
// second, whose one linear makes the output.
template <typename T>
class TwoSiteMixer : public CpuMixer<T> {
 public:
  using CpuMixer<T>::CpuMixer;
  void run_staged(StagedPass<T>& pass) final;

 protected:
  // From a sequence's hidden states to the inputs of the second site.
  virtual void inner(Index sequence, MatrixView<const float> hidden_TH,
                     MatrixView<T> out_TN) const = 0;
  Index inner_channels() const { return this->site(1).channels; }
  void add_inner(MatrixView<const T> inner_TN, MatrixView<float> sum_TH) const;
};

// One half of a block over all sequences while an observer looks on: a step runs over all of them
// before the next. What a step is done with is released: a few sequences a thread and one observed
// piece are in memory, wherever the rest lives.
template <typename T>
class StagedPass {
 public:
  // `sums`: what the half adds is added to these. `last`: no half of the block comes after this
  // one, or those beside it.
  StagedPass(CpuStates& hidden, const SequenceRows<float>& sums, io::ScratchSpace& scratch,
             int threads, BlockObserver& observer, model::BlockWeights& weights,
             WorkspacePool<T>& workspaces, bool last)
      : hidden_(hidden),
        sums_(sums),
        scratch_(scratch),
        threads_(threads),
        observer_(observer),
        weights_(weights),
        workspaces_(workspaces),
        last_(last) {}

  CpuStates& hidden() { return hidden_; }
  const SequenceRows<float>& sums() const { return sums_; }
  // Rows in scratch space, of all sequences or of as many as `firsts_B` says.
  template <typename E = T>
  SequenceRows<E> rows(Index width) {
    return {scratch_, hidden_.firsts_B(), width};
  }
  SequenceRows<T> rows(std::vector<Index> firsts_B, Index width) {
    return {scratch_, std::move(firsts_B), width};
  }
  // In parallel, but for empty ones.
  void each_sequence(const std::function<void(Index)>& body);
  // Shows what the half's norm leaves, the inputs of `site`, and finishes the site. The norm is
  // computed again in the next step: cheaper than keeping it for all rows.
  void show_norm(CpuMixer<T>& mixer, std::size_t site);
  // Shows the inputs of `site` and finishes it. `tokens`: ActivationView's.
  void show(CpuMixer<T>& mixer, std::size_t site, const SequenceRows<T>& inputs,
            std::span<const Index> tokens = {});
  // True if anything reads the half's output.
  bool wants_output() const { return !last_ || observer_.wants_output(); }

 private:
  void finish(CpuMixer<T>& mixer, std::size_t site);
  void norm_rows(const CpuMixer<T>& mixer, MatrixView<const float> hidden_TH, MatrixView<T> out_TH);

  CpuStates& hidden_;
  const SequenceRows<float>& sums_;
  io::ScratchSpace& scratch_;
  int threads_;
  BlockObserver& observer_;
  model::BlockWeights& weights_;
  WorkspacePool<T>& workspaces_;
  bool last_;
};

// The table of mixers (mixers.cpp): the pass of `half.half.mixer`, by its kind.
template <typename T>
std::unique_ptr<CpuMixer<T>> make_cpu_mixer(const CpuHalf<T>& half);

}  // namespace calque::forward
