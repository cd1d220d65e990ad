#pragma once

#include <string>

#include "calque/formats/plan.h"
#include "calque/model/family.h"
#include "calque/job/job.h"
#include "calque/resume/shared_work.h"
#include "calque/text/corpus.h"
#include "resume/statistics_store.h"

namespace calque::resume {

// What the statistics of a pass depend on, beside the job.
struct Measurement {
  const model::FamilySpec& family;
  const text::Manifest& calibration;
  const text::TokenBlocks& tokens;
  std::string forward_dtype;  // what `auto` became
  const job::StageDevices& devices;
};

// Where the statistics of this pass are or go; null if nothing is shared, or if no other job could
// use them: with propagate_error they feel the codes.
StatisticsStore* shared_statistics(const job::Job& job, const Measurement& measurement,
                                   SharedWork* shared);

}  // namespace calque::resume
