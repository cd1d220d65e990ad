#pragma once

#include <span>
#include <string>

#include "calque/forward/block_runner.h"

namespace calque::forward {

// Error(kNumerical, "E403"): `what`, a clause, and what to do about it.
[[noreturn]] void throw_not_finite(const std::string& what, ComputeDType dtype);

// The same for the hidden states that a block leaves.
[[noreturn]] void throw_output_not_finite(const model::BlockSpec& block, Index sequence,
                                          Index token, float value, ComputeDType dtype);

// The same for an input of `site`: row `row` of all that reach it (-1: it is not known which), in
// the order of the sequences, which have `lengths_B` tokens.
[[noreturn]] void throw_input_not_finite(const model::BlockSpec& block, const model::SiteSpec& site,
                                         Index row, std::span<const Index> lengths_B,
                                         ComputeDType dtype);

}  // namespace calque::forward
