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

// Whether a pass over `plan` looks for channel scales: GGUF blocks take none.
bool rescales_channels(const Job& job, const formats::ExportPlan& plan);

}  // namespace calque::job
