#pragma once

#include <vector>

#include "calque/eval/kv_cache.h"
#include "calque/job/job.h"
#include "calque/model/config.h"

namespace calque::job {

// evaluate.kv_cache for a model, names filled in: "q8_0", "q8_0/q4_0" (keys/values; "-": as
// computed), "q4_0@0-3" for some layers. Errors: eval/kv_cache.h; Error(kConfig, "E245") for an
// entry that names no type, and for two of one name.
std::vector<eval::KvCacheSpec> kv_caches_of(const EvaluationSettings& settings,
                                            const model::ModelConfig& config);

// Lengths of the windows that the caches are measured in, each once; `longest` stands for 0.
std::vector<Index> cache_seqlens(const EvaluationSettings& settings, Index longest);

// What is wrong with the section, before any work: Error(kConfig, "E206") for texts that are given
// twice or not at all, "E242" for names; Error(kInput, "E202") for files that are not there.
void check_evaluation(const EvaluationSettings& settings);

// Whether a text has to be tokenized.
bool reads_text(const EvaluationSettings& settings);

// What only the model can tell: windows that are longer than its positions (E207), caches that its
// heads do not fit.
void check_evaluation_of(const EvaluationSettings& settings, const model::ModelConfig& config);

}  // namespace calque::job
