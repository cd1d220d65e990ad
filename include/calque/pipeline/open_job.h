#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "calque/calib/importance.h"
#include "calque/forecast/memory_plan.h"
#include "calque/formats/plan.h"
#include "calque/formats/source.h"
#include "calque/formats/writer.h"
#include "calque/job/allocation.h"
#include "calque/job/job.h"
#include "calque/job/stage_devices.h"
#include "calque/job/task_questions.h"
#include "calque/job/tokens.h"
#include "calque/publish/publish.h"
#include "calque/text/vocabulary.h"

namespace calque::pipeline {

// A job with everything it names opened and checked: the input of validating, planning, probing and
// running it. Every fault shows while it is opened, from headers, before any arithmetic.
struct OpenedJob {
  job::Job job;
  formats::SourceModel source;
  model::FamilySpec measured;                            // source.family as calibration measures it
  std::vector<formats::ExportPlan> plans;                // one per export
  std::optional<calib::Importance> importance;           // quantization.imatrix
  std::map<std::string, text::Vocabulary> vocabularies;  // for GGUF exports, by their `pre`
  mutable job::Tokens tokens;  // opens the tokenizer once, in open_job if a text needs it
  std::vector<job::TaskQuestions> tasks;  // evaluate.tasks
  publish::SourceLicense license;         // licence of the model
  job::StageDevices devices;              // one per stage
  job::StageExecs execs;
  forecast::MemoryPlan memory;
  // The choice that a target size leaves to the run; `job` and `plans` are then a likely outcome.
  // Nullopt: everything is settled.
  std::optional<job::SizeProblem> sizes = std::nullopt;
  job::AllocationSettings allocation = {};  // with `sizes`: how they are chosen

  // Name of the model's folder, or of its file without extension.
  std::string source_name() const;
  // Settings and files of the model that contradict each other, with the one that is used.
  std::vector<std::string> contradictions() const;
  // A line each: tensors of other parts of the model that are carried as they are, or that a GGUF
  // file leaves out; files that no export carries over.
  std::vector<std::string> notes() const;
  std::vector<std::string> remarks() const;  // all of these
  // The inputs of an export's writer. `calibration_rows` is the number of rows of text, recorded in
  // the artifact's metadata. The result refers to this object.
  formats::WriterInputs writer_inputs(const formats::ExportPlan& plan,
                                      Index calibration_rows) const;
};

// Treatment of existing files at the paths that the job writes.
enum class Targets {
  kOthers,  // refuse them, unless they may be overwritten
  kOwnToo,  // leave this run's own files alone: it is resumed
};

struct OpenOptions {
  Targets targets = Targets::kOthers;
  job::TokenSharing sharing;  // shares tokens with other jobs; empty: no sharing
  // The measurement that gave the job its rules, as a part of its memory; nullopt: there was none.
  std::optional<forecast::AllocationShape> allocated = std::nullopt;
};

// The measurement that a target size asks for; `sizes` is the job's problem.
forecast::AllocationShape allocation_shape(const job::Job& job, const job::SizeProblem& sizes);

// Error(kConfig) for settings that contradict each other or that model, format or machine rule out,
// Error(kInput) for files that are missing or not what they should be, Error(kResource, "E301") for
// too little memory (forecast/memory_plan.h). Reads each file once.
OpenedJob open_job(const job::Job& job, const OpenOptions& options = {});

}  // namespace calque::pipeline
