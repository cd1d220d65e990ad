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
