#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::cli {

// Statistics of a tensor's values for `calque inspect --tensor`. Sums are doubles.
struct ValueFacts {
  double min = 0;  // smallest finite value
  double max = 0;
  double mean = 0;
  double rms = 0;
  std::int64_t zeros = 0;
  std::int64_t nonfinite = 0;
};
ValueFacts facts_of(MatrixView<const float> values);

struct CodeFacts {
  std::vector<std::int64_t> counts;  // one per code
  double smallest_scale = 0;         // magnitudes
  double largest_scale = 0;
  bool reordered_groups = false;  // columns are assigned to groups individually (activation order)
};
CodeFacts facts_of(const quant::QuantizedMatrix& matrix);

}  // namespace calque::cli
