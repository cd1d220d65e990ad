#include "cli/tensor_facts.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace calque::cli {

ValueFacts facts_of(MatrixView<const float> values) {
  ValueFacts facts;
  double sum = 0;
  double squares = 0;
  std::int64_t finite = 0;
  facts.min = std::numeric_limits<double>::infinity();
  facts.max = -facts.min;
  for (Index r = 0; r < values.rows(); ++r)
    for (Index c = 0; c < values.cols(); ++c) {
      const double value = values(r, c);
      if (!std::isfinite(value)) {
        ++facts.nonfinite;
        continue;
      }
      ++finite;
      facts.zeros += value == 0;
      facts.min = std::min(facts.min, value);
      facts.max = std::max(facts.max, value);
      sum += value;
      squares += value * value;
    }
  if (finite == 0) {
    facts.min = facts.max = 0;
    return facts;
  }
  facts.mean = sum / static_cast<double>(finite);
  facts.rms = std::sqrt(squares / static_cast<double>(finite));
  return facts;
}

CodeFacts facts_of(const quant::QuantizedMatrix& matrix) {
  const quant::GroupCodes& groups = matrix.groups();
  CodeFacts facts;
  facts.counts.resize(256, 0);
  for (Index n = 0; n < groups.codes_NK.rows(); ++n)
    for (Index k = 0; k < groups.codes_NK.cols(); ++k) ++facts.counts[groups.codes_NK(n, k)];
  facts.counts.resize(static_cast<std::size_t>(matrix.grid.max_code()) + 1);
  facts.smallest_scale = std::numeric_limits<double>::infinity();
  for (Index n = 0; n < groups.scales_NG.rows(); ++n)
    for (Index g = 0; g < groups.scales_NG.cols(); ++g) {
      const double scale = std::fabs(groups.scales_NG(n, g));
      facts.smallest_scale = std::min(facts.smallest_scale, scale);
      facts.largest_scale = std::max(facts.largest_scale, scale);
    }
  facts.reordered_groups = !groups.group_of_column_K.empty();
  return facts;
}

}  // namespace calque::cli
