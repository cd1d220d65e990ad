#pragma once

#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"

namespace calque::quant {

// What a job tells the methods that round; each reads what concerns it. The only place that holds
// these defaults.
struct RoundingOptions {
  // How a group's scale is chosen. kSearch is weighted with the mean squares of the inputs (GPTQ:
  // with the Hessian's diagonal). kBlockSearch uses the damped Hessian's blocks; it is for rounding
  // to nearest: GPTQ's sweep makes up for correlated errors itself, and on correlated random inputs
  // the loss after it came out 9 to 17 % higher than with kSearch.
  ScaleRule scale_rule = ScaleRule::kSearch;

  // GPTQ.
  bool act_order = true;       // static activation order; false: left to right
  double damp_percent = 0.01;  // of the mean diagonal
  double damp_auto_increment =
      0.01;  // first step when H is not positive definite; doubled each time; 0: no retries
  // Passes of coordinate descent on the codes and least-squares refits of the scales after the
  // sweep (refine_grid.h). The first costs about as much as four sweeps, each further one two.
  // Never raises the loss.
  int refine_passes = 4;
  // Of sweep and refinement on GGUF block grids (with refine_passes): each further one starts from
  // the original weights with the scales that the one before refined, costs as much as the first,
  // and counts in the rows that it improves. Relative layer errors of Q2_K on the demo model,
  // geometric mean times 1000: one round 5.53 (with 12 passes instead of 4: 5.48), two 5.32, three
  // 5.26, five 5.23; without coordinate descent between two rounds 5.44.
  int rounds = 2;
  // Rows are rounded a strip of about this many weights (128 MiB of fp32) at a time, to keep the
  // copies small; a strip has at least 128 rows. Does not change the result.
  Index strip_weights = Index{1} << 25;
};

}  // namespace calque::quant
