#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"

namespace calque::job {

// What the passes of a job over its model do, from its settings and the plans of its exports.

// Whether the plan rounds any linear that has an input site.
bool quantizes_a_linear(const formats::ExportPlan& plan);

// Exports that one pass over the model can serve: each set has the same grid for every tensor.
// Indices into `plans`, in order.
std::vector<std::vector<std::size_t>> group_by_grids(const std::vector<formats::ExportPlan>& plans);

// What a pass over `plan` does, for titles and artifacts: the job's method, unless all that it
// rounds are GGUF blocks. Those take no channel scales, and some of them no error feedback:
// "gptq", "imatrix" (by importance, as llama.cpp does), or "rtn".
std::string method_of(const Job& job, const formats::ExportPlan& plan);

// Whether a pass over `plan` looks for channel scales: GGUF blocks take none.
bool rescales_channels(const Job& job, const formats::ExportPlan& plan);

// How much a pass over `plan` makes up for what rounding did upstream (quant/upstream.h), 0..1.
double upstream_correction_for(const Job& job, const formats::ExportPlan& plan);

// Error(kConfig, "E116") if the job asks for a correction that its other settings rule out.
void check_upstream_settings(const Job& job);

// "model.gguf: type ... takes no channel scales ...", of method awq; "": nothing to say.
std::string unused_scales(const Job& job, const formats::ExportPlan& plan);

// "the model has no tokenizer: ...", where a GGUF file would need one; "": nothing to say.
std::string missing_tokenizer(const Job& job, const formats::ExportRequest& request);

}  // namespace calque::job
