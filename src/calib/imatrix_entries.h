#pragma once

#include <span>

#include "calque/io/imatrix.h"
#include "calque/model/family.h"

namespace calque::calib {

// Error(kConfig) for a family whose tensors have no names in GGUF.
void check_has_gguf_names(const model::FamilySpec& family);

// Matrices that GGUF keeps in the one tensor that this weight belongs to.
Index matrices_of(const model::BlockSpec& block, const model::TensorSpec& weight);

// Enters what `site` of `block` has seen under the GGUF name of each of its readers; no sums and no
// tokens: an expert that nothing was sent to.
void add_to_imatrix(const model::BlockSpec& block, const model::SiteSpec& site,
                    std::span<const double> sums_K, Index tokens, io::Imatrix& imatrix);

}  // namespace calque::calib
