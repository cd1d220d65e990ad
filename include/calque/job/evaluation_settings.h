#pragma once

#include <vector>

#include "calque/eval/kv_cache.h"
#include "calque/job/job.h"
#include "calque/model/config.h"

namespace calque::job {

// Resolves evaluate.kv_cache for a model and fills in names: "q8_0", "q8_0/q4_0" (keys/values; "-":
// as computed), "q4_0@0-3" for some layers. Errors as in eval/kv_cache.h; Error(kConfig, "E245")
// for an entry without a type, and for two entries with the same name.
std::vector<eval::KvCacheSpec> kv_caches_of(const EvaluationSettings& settings,
                                            const model::ModelConfig& config);

// Window lengths that the caches are measured at, without duplicates; `longest` replaces 0.
std::vector<Index> cache_seqlens(const EvaluationSettings& settings, Index longest);

// Checks the section before any work: Error(kConfig, "E206") for neither texts nor tasks and for
// texts given twice or not at all, "E242" for bad names, "E247" for tasks whose settings are none;
// Error(kInput, "E202") for missing files.
void check_evaluation(const EvaluationSettings& settings);

// True if a text or a task has to be tokenized.
bool reads_text(const EvaluationSettings& settings);

// Checks against the model: windows longer than its maximum number of positions (E207), caches that
// do not fit its heads.
void check_evaluation_of(const EvaluationSettings& settings, const model::ModelConfig& config);

}  // namespace calque::job
