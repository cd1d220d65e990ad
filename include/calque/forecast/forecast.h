#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "calque/forecast/memory_plan.h"
#include "calque/forecast/time.h"
#include "calque/formats/plan.h"
#include "calque/formats/planned_files.h"
#include "calque/job/job.h"

namespace calque::forecast {

// Tensors that are treated alike and differ in layer, expert or role only.
struct PlannedModules {
  std::string names;  // "model.layers.{0-31}.self_attn.{q,k,v}_proj"
  std::size_t count = 0;
  std::string stored_as;  // "GPTQ 4 bit g128", "Q4_K", "BF16"
  std::string method;     // that rounds them: "gptq", "rtn", "imatrix", "awq+gptq"; "": copied
  std::string order;      // of gptq: "static act order", "desc_act", "left to right"; "": none
  std::string block;      // GGUF's block type; "": groups, or copied
  int bits = 0;           // of codes; 0: copied
  std::int64_t group_size = 0;
  bool sym = false;
  double weights = 0;
  std::uint64_t bytes = 0;  // of tensor data
};

struct PlannedExport {
  formats::ExportPlan plan;
  std::vector<formats::PlannedFile> files;
  std::vector<PlannedModules> modules;

  std::uint64_t weights_bytes() const;  // of the files that hold weights
  std::uint64_t other_bytes() const;    // settings, indices and what is copied beside them
};

// Disk that a job takes while it runs, beside what is there already.
struct DiskUse {
  std::uint64_t output_bytes = 0;      // the exports' files
  std::uint64_t activation_bytes = 0;  // in runtime.offload_dir
  std::uint64_t state_bytes = 0;       // in the run folder, to go on after an interruption: hidden
                                       // states, the old ones until the new ones are there
  std::uint64_t total() const { return output_bytes + activation_bytes + state_bytes; }
};

// All that can be known of a job before it runs.
struct Forecast {
  std::string job_name;
  std::vector<PlannedExport> exports;
  MemoryPlan memory;
  DiskUse disk;
  TimePrediction time;
  MachineRates rates;
  std::string forward_dtype;  // what `auto` becomes; "": nothing is run
  std::int64_t calibration_rows = 0;
  std::int64_t seqlen = 0;
  std::vector<std::string> warnings;
};

// What a job was decided to be, as it was opened.
struct DecidedJob {
  const job::Job& job;
  const model::FamilySpec& family;
  const std::vector<formats::ExportPlan>& plans;
  const job::StageDevices& devices;
  const MemoryPlan& memory;
  MachineRates rates;                                    // for the time
  std::vector<std::vector<formats::PlannedFile>> files;  // of each export
  std::string importance_warning;                        // "": none
  bool every_module = false;                             // PlannedModules of one module each
};
Forecast forecast_of(DecidedJob decided);

// For the report: what was predicted of sizes, memory, disk and time.
record::Predicted predicted_of(const Forecast& plan);
record::Predicted with_time(record::Predicted predicted, const TimePrediction& time);

// As plan.json holds it.
std::string forecast_json(const Forecast& plan);
// Its "memory".
std::string memory_plan_json(const MemoryPlan& plan);

}  // namespace calque::forecast
