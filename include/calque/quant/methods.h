#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/kernels/scale_search.h"
#include "calque/quant/rounder.h"

namespace calque::quant {

// Round to nearest. Grids with desc_act have groups by falling mean square of the inputs.
struct RtnOptions {
  ScaleRule scale_rule = ScaleRule::kSearch;
};
Rounder make_rtn(const RtnOptions& options);

// GPTQ with static activation order: columns are visited by falling Hessian diagonal, while groups
// stay consecutive and their scales are chosen on the original weights beforehand and frozen, so
// files need no g_idx (algorithms.md 1.3). Grids with desc_act have their groups formed in visiting
// order instead.
// On GGUF's block types with scale codes the scales are those of the format's own search, weighted
// with the mean square of the inputs, and refinement moves scale codes and steps too
// (refine_blocks.h), also without statistics, for the squared error. The other block types
// are rounded as make_rtn does.
struct GptqOptions {
  // kSearch is weighted with the Hessian's diagonal. kBlockSearch uses the damped Hessian's blocks;
  // it is for rounding alone: the sweep makes up for correlated errors itself, and on correlated
  // random inputs the loss after it came out 9 to 17 % higher than with kSearch.
  ScaleRule scale_rule = ScaleRule::kSearch;
  bool act_order = true;       // static activation order; false: left to right
  double damp_percent = 0.01;  // of the mean diagonal
  double damp_auto_increment =
      0.01;  // first step when H is not positive definite; doubled each time; 0: no retries
  Index block_size = 128;
  // Passes of coordinate descent on the codes and least-squares refits of the scales after the
  // sweep (refine_grid.h). The first costs about as much as four sweeps, each further one two.
  // Never raises the loss.
  int refine_passes = 0;
  // Of sweep and refinement on GGUF block grids (with refine_passes): each further one starts from
  // the original weights with the scales that the one before refined, costs as much as the first,
  // and counts in the rows that it improves. Relative layer errors of Q2_K on the demo model,
  // geometric mean times 1000: one round 5.53 (with 12 passes instead of 4: 5.48), two 5.32, three
  // 5.26, five 5.23; without coordinate descent between two rounds 5.44.
  int rounds = 2;
  // Rows are rounded a strip of about this many weights (128 MiB of fp32) at a time, to keep the
  // copies small; a strip has at least 128 rows. Does not change the result.
  Index strip_weights = Index{1} << 25;
  // Not usable even with damp_percent 1 (or not finite): the matrix is rounded by RTN and the
  // report says so.
};
Rounder make_gptq(const GptqOptions& options);

// One row a method, for --help and the job file.
struct MethodInfo {
  std::string_view name;
  std::string_view summary;
  bool needs_calibration;
};
const std::vector<MethodInfo>& methods();

}  // namespace calque::quant
