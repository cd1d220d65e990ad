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

// Throws the same if a number among the inputs of `site` is infinite or NaN. `rows_before`: how
// many rows of the site have been seen, all of them in the order of the sequences, which have
// `lengths_B` tokens. Rows on a device are not looked at: their statistics count such rows.
void require_finite_inputs(const model::BlockSpec& block, const model::SiteSpec& site,
                           const ActivationView& inputs_TK, Index rows_before,
                           std::span<const Index> lengths_B);

}  // namespace calque::forward
