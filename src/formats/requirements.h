#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "formats/messages.h"

namespace calque::formats {

// Refuses a plan that a required runtime could not load: E141 tensor parallel sizes, E142 parts
// that a runtime fuses, E143 shapes of its kernels, E144 experts, E145 no guarantee for this
// format, E146 widths and groups that it does not load in this format, E147 what transformers does
// not load.
void check_requirements(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors, Refusals& refusals);

// Limits of transformers with compressed-tensors folders.
inline constexpr std::string_view kZeroPointsInTransformers =
    "compressed-tensors 0.18 to 0.20.1 expects zero points unpacked when transformers loads a "
    "folder; version 0.17 loads those of 2, 4 and 8 bits. Write sym: true, or install that "
    "version.";
inline constexpr std::string_view kExpertsInTransformers =
    "transformers 5 loads the experts of a layer as one tensor. Give all of them one rule "
    "('*.experts.*').";

// A remark on common tensor parallel sizes that the shapes do not allow; "" if all are allowed, or
// if even a single rank has problems.
std::string rank_remark(const model::FamilySpec& family, const ExportRequest& request,
                        const std::vector<TensorPlan>& tensors);

// Experts that stay in MXFP4 in a folder of another format; "": none do.
std::string mxfp4_remark(const std::vector<TensorPlan>& tensors);

// Rounded experts of a class whose checkpoints hold all experts of a layer in one tensor:
// transformers has no way from single experts to that tensor. "" if there are none, or if another
// package than compressed-tensors loads the folder.
std::string stacked_experts_remark(const model::FamilySpec& family, const ExportRequest& request,
                                   const std::vector<TensorPlan>& tensors);

}  // namespace calque::formats
