#pragma once

#include <string>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/methods.h"
#include "calque/quant/rounder.h"
#include "quant/weights.h"

namespace calque::quant {

// The part of GPTQ that depends only on the site. H = G / tokens + damping * I. Inputs that were
// always zero get only the damping, so their weights are simply rounded.
struct GptqSite {
  Order order;
  Matrix<float> inverse_factor_KK;  // factor of H^-1, in visiting order; empty: GPTQ is not usable
  Matrix<float> hessian_KK;         // both triangles
  bool hessian_in_order = false;    // in visiting order, not in stored order
  bool keeps_runs = false;          // the order keeps runs of eight columns together
  double damp_percent = 0;
  double damping = 0;  // added to the diagonal
  Index dead_columns = 0;
  std::string failure;
};

// Computes order and factor. With options.act_order, reads both triangles of the Gram matrix.
GptqSite factor_site(const quant::InputStats& stats, const RoundingOptions& options,
                     const Exec& exec);

// Prepares everything for a site. Turns the Gram matrix, taken out of `stats`, into the Hessian
// unless that fails. Grids whose groups follow the visiting order get it in that order. Holds two K
// x K matrices, during the call and afterwards.
GptqSite prepare_gptq(quant::InputStats& stats, bool in_order, const RoundingOptions& options,
                      const Exec& exec);

// Gives a usable site, whose Hessian is in stored order, a visiting order of whole runs of eight
// columns, and the factor in that order.
void keep_runs(GptqSite& site, const RoundingOptions& options, const Exec& exec);

// Measures errors of weights whose columns are in the Hessian's order.
ErrorMeasure measure_of(const GptqSite& site);

// Sums over rounded rows.
struct GptqSums {
  double loss = 0;    // tr(E H E^T)
  double error = 0;   // |E|^2
  double energy = 0;  // tr(W G W^T) / tokens

  void operator+=(const GptqSums& other);
};
RoundingReport gptq_report(const GptqSums& sums, const GptqSite& site);

}  // namespace calque::quant
