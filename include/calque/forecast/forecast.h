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

// Tensors that are treated alike and differ only in layer, expert or role.
struct PlannedModules {
  std::string names;  // "model.layers.{0-31}.self_attn.{q,k,v}_proj"
  std::size_t count = 0;
  std::string stored_as;  // "GPTQ 4 bit g128", "Q4_K", "BF16"
  std::string method;     // "gptq", "rtn", "imatrix", "awq+gptq"; "": copied
  std::string order;  // GPTQ's columns: "static act order", "desc_act", "left to right"; "": none
  std::string block;  // GGUF block type; "": groups, or copied
  int bits = 0;       // bits per code; 0: copied
  std::int64_t group_size = 0;
  bool sym = false;
  double weights = 0;
  std::uint64_t bytes = 0;  // tensor data
};

struct PlannedExport {
  formats::ExportPlan plan;
  std::vector<formats::PlannedFile> files;
  std::vector<PlannedModules> modules;

  std::uint64_t weights_bytes() const;  // all files that hold weights
  std::uint64_t other_bytes() const;    // settings, indices and copied files
};

// Disk space that a job uses in addition to what is already there.
struct DiskUse {
  std::uint64_t output_bytes = 0;      // the exports' files
  std::uint64_t activation_bytes = 0;  // in runtime.offload_dir
  std::uint64_t state_bytes = 0;       // in the run folder, to go on after an interruption: hidden
                                       // states, the old ones until the new ones are there
  std::uint64_t total() const { return output_bytes + activation_bytes + state_bytes; }
};

// Everything that can be predicted about a job before it runs.
struct Forecast {
  std::string job_name;
  std::vector<PlannedExport> exports;
  MemoryPlan memory;
  DiskUse disk;
  TimePrediction time;
  MachineRates rates;
  std::string forward_dtype;  // the resolved value of `auto`; "": nothing is run
  std::int64_t calibration_rows = 0;
  std::int64_t seqlen = 0;
  std::vector<std::string> warnings;
};

// A job and the decisions made when it was opened.
struct DecidedJob {
  const job::Job& job;
  const model::FamilySpec& family;
  const std::vector<formats::ExportPlan>& plans;
  const job::StageDevices& devices;
  const MemoryPlan& memory;
  MachineRates rates;                                    // for the time prediction
  std::vector<std::vector<formats::PlannedFile>> files;  // one list per export
  std::string importance_warning;                        // "": none
  std::vector<std::string> remarks;                      // on the files of the model
  bool every_module = false;  // list each module separately in PlannedModules
};
Forecast forecast_of(DecidedJob decided);

// The predicted sizes, memory, disk use and time, for the run report.
record::Predicted predicted_of(const Forecast& plan);
record::Predicted with_time(record::Predicted predicted, const TimePrediction& time);

// The contents of plan.json.
std::string forecast_json(const Forecast& plan);
// The "memory" object of plan.json.
std::string memory_plan_json(const MemoryPlan& plan);

}  // namespace calque::forecast
