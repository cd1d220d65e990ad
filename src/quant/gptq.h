#pragma once

#include <string>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"
#include "calque/quant/rounder.h"
#include "quant/weights.h"

namespace calque::quant {

// What GPTQ needs that depends on the site only. H = G / tokens + damping * I; inputs that were
// always zero get damping alone, so their weights are simply rounded.
struct GptqSite {
  Order order;
  Matrix<float> inverse_factor_KK;  // of H, in visiting order; empty: GPTQ is not usable
  Matrix<float> hessian_KK;         // both triangles
  bool hessian_in_order = false;    // in visiting order, not in stored order
  double damp_percent = 0;
  double damping = 0;  // added to the diagonal
  Index dead_columns = 0;
  std::string failure;
};

// Order and factor. With options.act_order both triangles of the Gram matrix are read.
GptqSite factor_site(const quant::InputStats& stats, const RoundingOptions& options,
                     const Exec& exec);

// Everything. The Hessian is made of the Gram matrix, which is taken out of `stats`, unless there
// is a failure. In visiting order for grids whose groups are formed in it. Two K x K matrices are
// held, then and now.
GptqSite prepare_gptq(quant::InputStats& stats, bool in_order, const RoundingOptions& options,
                      const Exec& exec);

// For weights with their columns in the order of the Hessian's.
ErrorMeasure measure_of(const GptqSite& site);

// Sums over rows that were rounded.
struct GptqSums {
  double loss = 0;    // tr(E H E^T)
  double error = 0;   // |E|^2
  double energy = 0;  // tr(W G W^T) / tokens

  void operator+=(const GptqSums& other);
};
RoundingReport gptq_report(const GptqSums& sums, const GptqSite& site);

}  // namespace calque::quant
