#pragma once

#include "calque/kernels/gram.h"
#include "calque/quant/input_stats.h"
#include "support/samples.h"

namespace calque::test {

inline quant::InputStats stats_of(const Matrix<float>& inputs_TK) {
  quant::InputStats stats;
  stats.gram_KK = Matrix<float>(inputs_TK.cols(), inputs_TK.cols());
  stats.magnitude_K.resize(static_cast<std::size_t>(inputs_TK.cols()));
  const GramCount count =
      accumulate_gram(inputs_TK.view(), stats.gram_KK, stats.magnitude_K, open_exec("cpu", 1));
  stats.tokens = count.rows;
  stats.nonfinite_tokens = count.nonfinite_rows;
  return stats;
}

}  // namespace calque::test
