#pragma once

#include "calque/core/matrix.h"
#include "calque/kernels/scale_search.h"

namespace calque::quant {

// Options of the rounding methods; each method reads those it uses. The defaults are defined only
// here.
struct RoundingOptions {
  // Rule for a group's scale. kSearch is weighted by the mean squares of the inputs (GPTQ: by the
  // Hessian's diagonal). kBlockSearch uses blocks of the damped Hessian and is for rounding to
  // nearest: GPTQ's sweep compensates correlated errors itself, and on correlated random inputs the
  // loss after the sweep was 9 to 17 % higher than with kSearch.
  ScaleRule scale_rule = ScaleRule::kSearch;

  // The options below are GPTQ's.
  bool act_order = true;       // static activation order; false: left to right
  double damp_percent = 0.01;  // share of the Hessian's mean diagonal
  double damp_auto_increment =
      0.01;  // first step when H is not positive definite; doubled each time; 0: no retries
  // Passes of coordinate descent on the codes and least-squares refits of the scales after the
  // sweep (refine_grid.h). The first costs about as much as four sweeps, each further one two.
  // Never raises the loss.
  int refine_passes = 4;
  // Rounds of sweep and refinement on GGUF block grids (with refine_passes). Each further round
  // starts from the original weights with the scales that the previous one refined, costs as much
  // as the first, and replaces the rows that it improves. Relative layer errors of Q2_K on the demo
  // model, geometric mean times 1000: one round 5.53 (with 12 passes instead of 4: 5.48), two 5.32,
  // three 5.26, five 5.23; without coordinate descent between two rounds 5.44.
  int rounds = 2;
  // Rows are rounded in strips of about this many weights (128 MiB of fp32), to keep the copies
  // small; a strip has at least 128 rows. Does not change the result.
  Index strip_weights = Index{1} << 25;
};

}  // namespace calque::quant
