#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::cli {

// What `calque inspect --tensor` says of a tensor's values. Sums in double.
struct ValueFacts {
  double min = 0;  // of the finite values
  double max = 0;
  double mean = 0;
  double rms = 0;
  std::int64_t zeros = 0;
  std::int64_t nonfinite = 0;
};
ValueFacts facts_of(MatrixView<const float> values);

struct CodeFacts {
  std::vector<std::int64_t> counts;  // by code
  double smallest_scale = 0;         // magnitudes
  double largest_scale = 0;
  bool reordered_groups = false;  // columns carry their group (activation order)
};
CodeFacts facts_of(const quant::QuantizedMatrix& matrix);

}  // namespace calque::cli
