#pragma once

#include <string>

#include "calque/formats/plan.h"
#include "calque/job/job.h"

namespace calque::job {

// Whether the plan rounds any linear that has an input site.
bool quantizes_a_linear(const formats::ExportPlan& plan);

// What a pass over `plan` does, for titles and artifacts: the job's method, unless all that it
// rounds are GGUF blocks. Those take no channel scales, and some of them no error feedback:
// "gptq", "imatrix" (by importance, as llama.cpp does), or "rtn".
std::string method_of(const Job& job, const formats::ExportPlan& plan);

// How groups of the linears in blocks get their ranges: awq.clip has a search of its own.
ScaleRule rounding_scale_rule(const QuantizationSettings& settings);

}  // namespace calque::job
