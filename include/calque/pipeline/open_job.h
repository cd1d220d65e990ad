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
#include "calque/job/job.h"
#include "calque/job/stage_devices.h"
#include "calque/job/tokens.h"
#include "calque/publish/publish.h"
#include "calque/text/vocabulary.h"

namespace calque::pipeline {

// A job with all that it names opened and checked: what validating, planning, probing and running
// it read. Whatever is wrong shows while it is opened, from headers, before any arithmetic.
struct OpenedJob {
  job::Job job;
  formats::SourceModel source;
  std::vector<formats::ExportPlan> plans;                // what is written, export by export
  std::optional<calib::Importance> importance;           // quantization.imatrix
  std::map<std::string, text::Vocabulary> vocabularies;  // for GGUF exports, by their `pre`
  mutable job::Tokens tokens;      // opens the tokenizer once, in open_job if a text needs it
  publish::SourceLicense license;  // of the model
  job::StageDevices devices;       // that the stages run on
  job::StageExecs execs;
  forecast::MemoryPlan memory;

  // "folder", or "file" without its ending, of the model.
  std::string source_name() const;
  // What the writer of an export reads; `calibration_rows`: of text, for what it says of its
  // making. The result refers to this.
  formats::WriterInputs writer_inputs(const formats::ExportPlan& plan,
                                      Index calibration_rows) const;
};

// What is at the paths that the job writes already.
enum class Targets {
  kOthers,  // refused, unless it may be overwritten
  kOwnToo,  // of this run, which goes on: left alone
};

struct OpenOptions {
  Targets targets = Targets::kOthers;
  job::TokenSharing sharing;  // of tokens with other jobs; empty: none
};

// Error(kConfig) for settings that do not go together or that model, format or machine rule out,
// Error(kInput) for files that are missing or not what they should be, Error(kResource, "E301") for
// too little memory (forecast/memory_plan.h). Each file is read once.
OpenedJob open_job(const job::Job& job, const OpenOptions& options = {});

}  // namespace calque::pipeline
