#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "calque/io/scratch.h"
#include "calque/text/corpus.h"

namespace calque::eval {

// The final hidden states of one reference model, window set by window set, so that evaluations
// which follow each other in a process run it once. Whose states they are is the owner's business:
// one object a checkpoint. For one thread at a time.
class ReferenceStates {
 public:
  // `scratch`: where the states are kept; null: where the evaluation that makes them keeps its own.
  explicit ReferenceStates(std::shared_ptr<io::ScratchSpace> scratch = nullptr)
      : scratch_(std::move(scratch)) {}

  const std::shared_ptr<io::ScratchSpace>& scratch() const { return scratch_; }

  // The states after the last block for exactly these rows, this precision and device; null: not
  // computed yet.
  std::shared_ptr<const forward::HiddenStates> find(const text::TokenBlocks& rows,
                                                    const forward::RunnerOptions& options) const;
  // `seconds`: what computing them took.
  void keep(const text::TokenBlocks& rows, const forward::RunnerOptions& options,
            std::shared_ptr<const forward::HiddenStates> hidden, double seconds = 0);
  // Lets go of everything: memory or files.
  void clear() { entries_.clear(); }

  std::int64_t hits() const { return hits_; }  // evaluations that did not run the reference
  double spared_seconds() const {
    return spared_seconds_;
  }  // time that those runs would have taken

 private:
  struct Entry {
    Matrix<std::int32_t> ids_BS;
    std::vector<std::int64_t> lengths_B;
    forward::ComputeDType dtype;
    std::string device;
    std::shared_ptr<const forward::HiddenStates> hidden;
    double seconds = 0;

    bool fits(const text::TokenBlocks& rows, const forward::RunnerOptions& options) const;
  };

  std::shared_ptr<io::ScratchSpace> scratch_;
  std::vector<Entry> entries_;
  mutable std::int64_t hits_ = 0;
  mutable double spared_seconds_ = 0;
};

}  // namespace calque::eval
