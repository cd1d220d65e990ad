#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"

namespace calque::job {

// A pass is one run through the model. These functions derive its properties from the job's
// settings and the plans of its exports.

// The model as a calibration pass measures it (calibration.experts).
model::FamilySpec measured_family(const Job& job, model::FamilySpec family);

// True if the plan rounds any linear that has an input site.
bool quantizes_a_linear(const formats::ExportPlan& plan);

// Groups exports that one pass can serve: those with the same grid for every tensor. Returns
// indices into `plans`, in order.
std::vector<std::vector<std::size_t>> group_by_grids(const std::vector<formats::ExportPlan>& plans);

// The method of a pass over `plan`, for titles and artifacts: the job's method, unless everything
// it rounds is GGUF blocks. Those take no channel scales, and some take no error feedback: "gptq",
// "imatrix" (weighted by importance, as in llama.cpp), or "rtn".
std::string method_of(const Job& job, const formats::ExportPlan& plan);

// True if a pass over `plan` searches for channel scales. GGUF blocks take none.
bool rescales_channels(const Job& job, const formats::ExportPlan& plan);

// Share of the upstream rounding error that a pass over `plan` compensates (quant/upstream.h),
// 0..1.
double upstream_correction_for(const Job& job, const formats::ExportPlan& plan);

// True if a pass over `plan` measures the largest magnitude of each input channel: for scales of
// inputs that the files store, or for a transform that eases rounded inputs.
bool needs_input_peaks(const Job& job, const formats::ExportPlan& plan);

// True if an export stores scales of keys and values, which a run of the model measures.
bool needs_kv_peaks(const Job& job);

// Error(kConfig, "E134") for a plan that needs text where there is none, or channel scales on a
// grid whose rows share theirs.
void check_schemes(const Job& job, const std::vector<formats::ExportPlan>& plans);

// Error(kConfig, "E116") if the job asks for a correction that its other settings rule out.
void check_upstream_settings(const Job& job);

// Warning about channel scales that a file cannot hold ("model.gguf: type ... takes no channel
// scales ...") or gains nothing from (SmoothQuant where inputs are not rounded); "" if
// none applies.
std::string unused_scales(const Job& job, const formats::ExportPlan& plan);

// Warning "the model has no tokenizer: ..." for a GGUF export that needs one; "" if none applies.
std::string missing_tokenizer(const Job& job, const formats::ExportRequest& request);

}  // namespace calque::job
