#pragma once

#include <span>
#include <string_view>

namespace calque::job {

// The work that a job spends on quality: what the keys of `quantization` that say `auto` stand for.
// experiments/quality/README.md has the measurements that the rows were chosen from.
struct Preset {
  std::string_view name;     // in the job file: "balanced"
  std::string_view summary;  // one sentence for the key's documentation
  int refine_passes = 0;     // quant::RoundingOptions'
  // Codes of fewer bits than this are corrected for errors upstream (quant/upstream.h), which takes
  // a second forward pass.
  int corrects_below_bits = 0;
};

extern const Preset kFast;
extern const Preset kBalanced;  // the default
extern const Preset kBest;

std::span<const Preset* const> presets();

}  // namespace calque::job
