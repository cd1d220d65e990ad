#pragma once

#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/kernels/operations.h"

namespace calque::job {

// The operations that a job needs from each stage's device.
struct StageNeeds {
  bool forward = false;  // anything runs through a model
  // In the order of all_operations(); empty: the stage needs no device.
  std::vector<Operation> statistics;
  std::vector<Operation> transform;
  std::vector<Operation> quantize;
  std::vector<Operation> pack;
};

// Collects the operations that the methods and formats call. Work that always runs on the host does
// not count: llama.cpp's roundings, products of matrices, AWQ's packing.
StageNeeds stage_needs(const Job& job, const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::job
