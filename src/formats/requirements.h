#pragma once

#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "formats/messages.h"

namespace calque::formats {

// Whether a runtime could load the finished plan: E141 tensor parallel sizes, E142 parts that a
// runtime fuses, E143 shapes of its kernels, E144 experts, E145 no promise for this format, E146
// widths and groups that it does not load from this format.
void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals);

// Which of the sizes of tensor parallelism that people run the shapes allow; "": all of them, or
// one rank has trouble already.
std::string rank_remark(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors);

}  // namespace calque::formats
