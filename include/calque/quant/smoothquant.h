#pragma once

#include <vector>

#include "calque/quant/awq.h"

namespace calque::quant {

// SmoothQuant's channel scales (arXiv 2211.10438; src/quant/README.md, "SmoothQuant"): inputs with
// a few large channels lose the others when they are rounded; the scales move that size into the
// weights, which are rounded more easily.
struct SmoothQuantOptions {
  double alpha = 0.5;  // share of the inputs' size that moves: 0: none of it, 1: all
};

// s_k = max|x_k|^alpha / max|w_k|^(1 - alpha), maxima over calibration tokens and over all rows of
// all readers, divided by the geometric mean of all s, so that norms and weights keep their size.
// 1 where x_k or w_k is always zero: such channels take no part in the mean. In double precision,
// rounded once. Error(kInternal) unless `stats` hold peaks (InputStats::largest_K) of the readers'
// input.
std::vector<float> smooth_scales(const std::vector<ChannelReader>& readers, const InputStats& stats,
                                 const SmoothQuantOptions& options);

}  // namespace calque::quant
