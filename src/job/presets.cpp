#include "calque/job/presets.h"

#include "calque/quant/rounding_options.h"

namespace calque::job {

const Preset kFast = {
    .name = "fast",
    .summary = "one forward pass and one of refinement",
    .refine_passes = 1,
    .corrects_below_bits = 0,
};

// Below 4 bits the error of earlier layers is worth a second forward pass. On the demo model it
// takes 30 % off the KL divergence of Q2_K (0.0303), 19 % off that of Q3_K_S (0.0105) and 11 % off
// that of Q4_K_S (0.0024); see experiments/gguf.
const Preset kBalanced = {
    .name = "balanced",
    .summary = "a second forward pass where codes have fewer than 4 bits",
    .refine_passes = quant::RoundingOptions{}.refine_passes,
    .corrects_below_bits = 4,
};

const Preset kBest = {
    .name = "best",
    .summary = "a second forward pass at every width",
    .refine_passes = quant::RoundingOptions{}.refine_passes,
    .corrects_below_bits = 9,
};

std::span<const Preset* const> presets() {
  static constexpr const Preset* kRows[] = {&kFast, &kBalanced, &kBest};
  return kRows;
}

}  // namespace calque::job
