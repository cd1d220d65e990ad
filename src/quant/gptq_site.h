#pragma once

#include <string>

#include "calque/calib/input_stats.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/methods.h"
#include "calque/quant/rounder.h"
#include "quant/column_order.h"

namespace calque::quant {

// What GPTQ needs that depends on the site only. H = G / tokens + damping * I; inputs that were
// always zero get damping alone, so their weights are simply rounded.
struct GptqSite {
  Order order;
  Matrix<float> inverse_factor_KK;  // of H, in visiting order; empty: GPTQ is not usable
  Matrix<float> hessian_KK;         // both triangles, in stored order; only if it is needed
  double damp_percent = 0;
  double damping = 0;  // added to the diagonal
  Index dead_columns = 0;
  std::string failure;
};

GptqSite prepare_gptq(const calib::InputStats& stats, const GptqOptions& options, const Exec& exec);

// Of a matrix that was rounded to `q` with tr(E H E^T) = loss.
RoundingReport gptq_report(MatrixView<const float> weight_NK, const QuantizedMatrix& q, double loss,
                           const GptqSite& site, const calib::InputStats& stats, const Exec& exec);

}  // namespace calque::quant
