#pragma once

#include <list>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "calque/core/parallel.h"
#include "calque/forward/block_runner.h"
#include "calque/io/scratch.h"
#include "forward/rotary.h"

namespace calque::forward {

// Rows of all sequences, one after the other without padding, in scratch space. Contents start
// undefined.
template <typename T>
class SequenceRows {
 public:
  // `firsts_B`: the first row of each sequence and, at the end, the number of rows.
  SequenceRows(io::ScratchSpace& space, std::vector<Index> firsts_B, Index width)
      : firsts_B_(std::move(firsts_B)), rows_TK_(space, firsts_B_.back(), width) {}

  const std::vector<Index>& firsts_B() const { return firsts_B_; }
  Index first(Index sequence) const { return firsts_B_[static_cast<std::size_t>(sequence)]; }
  Index length(Index sequence) const { return first(sequence + 1) - first(sequence); }
  MatrixView<T> all() const { return rows_TK_.view(); }
  MatrixView<T> of(Index sequence) const { return all().rows(first(sequence), length(sequence)); }
  // Rows that will not be touched soon (ScratchArray::release).
  void release_rows(Index first, Index count) const { rows_TK_.release_rows(first, count); }
  void release(Index sequence) const { release_rows(first(sequence), length(sequence)); }

 private:
  std::vector<Index> firsts_B_;
  io::ScratchMatrix<T> rows_TK_;
};

// The residual stream in fp32, what mixers keep for later blocks, and the angles that turn heads.
class CpuStates : public HiddenStates {
 public:
  CpuStates(Index hidden_size, std::span<const Index> lengths, io::ScratchSpace& space);

  Index sequences() const override { return static_cast<Index>(firsts_B().size()) - 1; }
  Index length(Index sequence) const override { return rows_TH_.length(sequence); }

  const std::vector<Index>& firsts_B() const { return rows_TH_.firsts_B(); }
  const SequenceRows<float>& rows() const { return rows_TH_; }
  MatrixView<float> all_TH() { return rows_TH_.all(); }
  MatrixView<float> sequence_TH(Index sequence) { return rows_TH_.of(sequence); }
  MatrixView<const float> sequence_TH(Index sequence) const { return rows_TH_.of(sequence); }
  void release_rows(Index first, Index count) const { rows_TH_.release_rows(first, count); }
  void release(Index sequence) const { rows_TH_.release(sequence); }
  // Releases positions [first, first + count) of a sequence.
  void release(Index sequence, Index first, Index count) const {
    release_rows(rows_TH_.first(sequence) + first, count);
  }

  // Rows for later blocks under this name, undefined when first asked for. A mixer takes them when
  // it is made, and fills a sequence's where it runs that sequence.
  SequenceRows<float>& kept(const model::KeptRows& rows);
  const std::map<std::string, SequenceRows<float>>& all_kept() const { return kept_; }

  // For the longest sequence; lives as long as this.
  const Rotary& rotary(const model::RopeSpec& rope, Index head_dim) const;

 private:
  struct Angles {
    model::RopeSpec rope;
    Index head_dim = 0;
    Rotary rotary;
  };

  io::ScratchSpace& space_;
  SequenceRows<float> rows_TH_;
  std::map<std::string, SequenceRows<float>> kept_;
  mutable std::mutex mutex_;  // guards angles_
  mutable std::list<Angles> angles_;
};

}  // namespace calque::forward
