#pragma once

#include <span>

#include "calque/core/copies.h"

// The loops over logits. strip_loops.cpp is compiled for every machine and once more for AVX-512;
// both copies give the same bits.
namespace calque::eval {

struct StripLoops {
  // Not-a-numbers are passed over; negative infinity where there is nothing else.
  float (*largest)(std::span<const float> logits);
  // exponentials_v = e^(logits_v - largest), which is no less than any logit and 0 for negative
  // infinity; returns their sum.
  double (*exponentials)(std::span<const float> logits, double largest,
                         std::span<double> exponentials);
  // sum_v exponentials_v (reference_v - candidate_v), where a token that the reference never says
  // (negative infinity) adds 0
  double (*crossed)(std::span<const double> exponentials, std::span<const float> reference,
                    std::span<const float> candidate);
};

CALQUE_COPIES(const StripLoops& compiled_strip_loops();)

// The copy for instruction_set() (softmax_sum.cpp).
const StripLoops& strip_loops();

}  // namespace calque::eval
