#pragma once

#include <vector>

#include "calque/quant/input_stats.h"
#include "calque/quant/awq.h"

namespace calque::quant {

// Throws Error(kInternal) unless there are readers of `stats`' input whose grids divide it.
void expect_readers(const std::vector<AwqReader>& readers, const quant::InputStats& stats);

// AWQ's one-parameter family of channel scales:
//   s = max(x^r / (w^(1 - r) + 1e-4), 1e-4) / sqrt(max s * min s)
// with x the mean magnitude of the inputs and w the mean over all rows of all readers of
// |weight| / (largest |weight| of its group + 1e-6).
class ScaleFamily {
 public:
  ScaleFamily(const std::vector<AwqReader>& readers, const quant::InputStats& stats);

  std::vector<float> scales(double ratio) const;

 private:
  std::vector<double> input_mean_K_;   // x; 0: calibration has not seen the channel
  std::vector<double> weight_mean_K_;  // w
};

}  // namespace calque::quant
