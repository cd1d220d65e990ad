#pragma once

#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "formats/messages.h"

namespace calque::formats {

// Refuses a plan that a required runtime could not load: E141 tensor parallel sizes, E142 parts
// that a runtime fuses, E143 shapes of its kernels, E144 experts, E145 no guarantee for this
// format, E146 widths and groups that it does not load in this format.
void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals);

// A remark on common tensor parallel sizes that the shapes do not allow; "" if all are allowed, or
// if even a single rank has problems.
std::string rank_remark(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors);

}  // namespace calque::formats
