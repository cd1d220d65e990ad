#pragma once

#include <vector>

#include "calque/core/matrix.h"
#include "calque/forward/block_runner.h"

namespace calque::calib {

// Sums of the squared inputs of one site: the diagonal of its Gram matrix, without the matrix. Sums
// are doubles, added row by row in order on the calling thread, so they do not depend on how rows
// are cut into calls. The time is small next to the forward pass that makes the rows.
class SquareCollector {
 public:
  explicit SquareCollector(Index features) : sums_K_(static_cast<std::size_t>(features)) {}
  // Rows with NaN or infinity are left out, and the first is noted.
  void add(const forward::ActivationView& inputs_TK);

  const std::vector<double>& sums_K() const { return sums_K_; }
  Index tokens() const { return tokens_; }                                // rows in the sums
  Index first_nonfinite_token() const { return first_nonfinite_token_; }  // -1: none

 private:
  template <typename T>
  void add_rows(MatrixView<const T> inputs_TK);

  std::vector<double> sums_K_;
  Index tokens_ = 0;
  Index seen_ = 0;
  Index first_nonfinite_token_ = -1;
};

}  // namespace calque::calib
