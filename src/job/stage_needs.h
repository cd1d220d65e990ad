#pragma once

#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/kernels/operations.h"
#include "calque/job/job.h"

namespace calque::job {

// What a job asks of the device that a stage runs on.
struct StageNeeds {
  bool forward = false;  // anything is run through a model
  // In the order of all_operations(); empty: the stage has nothing to do on a device.
  std::vector<Operation> statistics;
  std::vector<Operation> transform;
  std::vector<Operation> quantize;
  std::vector<Operation> pack;
};

// By the methods' own calls (quant/, artifact/packed_layout.h). What always runs on the host is not
// counted: llama.cpp's roundings, products of matrices, AWQ's packing.
StageNeeds stage_needs(const Job& job, const std::vector<formats::ExportPlan>& plans);

}  // namespace calque::job
