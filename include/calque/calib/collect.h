#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "calque/core/exec.h"
#include "calque/forward/block_runner.h"
#include "calque/kernels/gram.h"
#include "calque/quant/input_stats.h"

namespace calque::calib {

// Bytes of host memory that hold one block of a site's rows until it is summed. The sum itself
// needs more (kernels/gram.h).
constexpr std::uint64_t waiting_bytes(Index features, std::uint64_t element_bytes) {
  return static_cast<std::uint64_t>(kGramRows * features) * element_bytes;
}

// Accumulates the statistics of one site, as the block runner delivers its rows. The host's rows
// are gathered into blocks of a fixed size first: the sums do not depend on how they were cut into
// calls, and short sequences cost no more than long ones. Rows on a GPU are summed there, as they
// come, and need that GPU's `exec`.
class StatsCollector {
 public:
  // `peaks`: also the largest magnitudes of the channels, for which rows must be the host's.
  StatsCollector(Index features, const Exec& exec, bool peaks = false);
  // All rows of a collection come in the same precision.
  void add(const forward::ActivationView& inputs_TK);
  quant::InputStats finish();  // the collector is empty afterwards

 private:
  template <typename T>
  void gather(MatrixView<const T> inputs_TK, Matrix<T>& pending_TK);
  template <typename T>
  void add_block(MatrixView<const T> block_TK);
  void flush();
  GramSum& sum();

  Index features_;
  Exec exec_;
  std::optional<GramSum> sum_;
  std::vector<float> largest_K_;  // empty: not asked for
  Index pending_rows_ = 0;
  Matrix<float> pending_f32_TK_;
  Matrix<BFloat16> pending_bf16_TK_;
};

}  // namespace calque::calib
