#pragma once

#include <string>

#include "calque/artifact/plan.h"
#include "calque/model/family.h"
#include "calque/pipeline/job.h"
#include "calque/pipeline/shared_work.h"
#include "calque/text/corpus.h"
#include "pipeline/statistics_store.h"

namespace calque::pipeline {

// What the statistics of a pass depend on, beside the job.
struct Measurement {
  const model::FamilySpec& family;
  const text::Manifest& calibration;
  const text::TokenBlocks& tokens;
  std::string forward_dtype;  // what `auto` became
  const StageDevices& devices;
};

// Where the statistics of this pass are or go; null if nothing is shared, or if no other job could
// use them: with propagate_error they feel the codes.
StatisticsStore* shared_statistics(const Job& job, const Measurement& measurement,
                                   SharedWork* shared);

}  // namespace calque::pipeline
