#pragma once

#include <algorithm>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"
#include "calque/model/family.h"

namespace calque::forward {

// Which rows of one sequence go to which expert, and what each expert's answer is weighted by.
struct Routing {
  struct Expert {
    std::vector<Index> rows;  // ascending
    std::vector<float> weights;
  };
  std::vector<Expert> experts;
};

// Softmax over all experts, the `used` most probable ones (of equals the first), perhaps scaled to
// sum 1; in fp32 whatever the compute type.
Routing route(const model::ExpertsSpec& spec, MatrixView<const float> router_EH,
              MatrixView<const float> normed_TH);

// Sigmoid of the gate's product with each row.
std::vector<float> shared_weights(MatrixView<const float> gate_1H,
                                  MatrixView<const float> normed_TH);

template <typename T>
void gather(MatrixView<const T> from_TH, const std::vector<Index>& rows, MatrixView<T> out_RH) {
  for (Index r = 0; r < out_RH.rows(); ++r) {
    const T* const row = from_TH.row(rows[static_cast<std::size_t>(r)]);
    std::copy(row, row + out_RH.cols(), out_RH.row(r));
  }
}

}  // namespace calque::forward
