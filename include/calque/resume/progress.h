#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/record/report.h"

namespace calque::resume {

// State of a pass that is carried from block to block.
struct RoundingState {
  std::vector<record::ModuleReport> modules;
  std::vector<std::string> given;     // tensors given completely to the writers
  std::set<std::string> uncorrected;  // kinds of sites that a warning has mentioned
};

// Progress of one pass.
struct PassProgress {
  Index blocks = 0;       // number of finished blocks
  bool complete = false;  // the tensors outside the blocks are finished, too
  RoundingState rounding;
  std::vector<std::string> notes;  // from the writers (formats::KeptArtifact), in order
  std::string streams;             // file in state/ with the hidden states; "": none
};

// Totals of the whole run so far.
struct RunTotals {
  double seconds = 0;
  record::StageSeconds stages;
  std::vector<std::string> warnings;
  std::uint64_t log_bytes = 0;  // length of log.jsonl
  std::uint64_t peak_bytes = 0;
};

// Settings or files that must not have changed: pairs of a name and its value.
using Fields = std::vector<std::pair<std::string, std::string>>;

struct RunProgress {
  std::string id;                             // identifies the run in the locks of its exports
  std::vector<formats::ExportRequest> begun;  // the run's exports: only `format` and `path`
  std::map<std::string, Fields> fields;       // by group: "settings", "model", ...
  std::map<std::size_t, PassProgress> passes;
  std::set<std::size_t> exports;                      // indices of finished exports
  std::vector<record::EvaluationReport> evaluations;  // finished ones, in order
  std::vector<record::TaskReport> tasks;              // the same
  RunTotals totals;
  int resumed = 0;

  bool has_finished_something() const { return !passes.empty() || !exports.empty(); }
};

// Records of the journal (io/journal.h); each is one line of JSON.
std::string begin_record(const std::string& run_id,
                         const std::vector<formats::ExportRequest>& exports);
std::string resumed_record();
std::string fields_record(const std::string& group, const Fields& fields);
std::string export_record(std::size_t index, const RunTotals& totals);
std::string evaluation_record(const record::EvaluationReport& text, const RunTotals& totals);
std::string task_record(const record::TaskReport& task, const RunTotals& totals);
// Contains the modules and tensors that `before` does not have.
std::string pass_record(std::size_t pass, const PassProgress& now, const PassProgress& before,
                        const RunTotals& totals);

// Rebuilds the progress from its records. Leaves out the modules' grids: the plan knows them.
// Error(kInput, "E307") for an unknown record.
RunProgress read_progress(const std::vector<std::string>& records);

}  // namespace calque::resume
