#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "calque/record/report.h"

namespace calque::resume {

// What outlives the blocks of a pass.
struct RoundingState {
  std::vector<record::ModuleReport> modules;
  std::vector<std::string> given;     // tensors that the writers have, whole
  std::set<std::string> uncorrected;  // kinds of sites that a warning has told of
};

// How far one pass has come.
struct PassProgress {
  Index blocks = 0;       // that are finished
  bool complete = false;  // so are the tensors outside the blocks
  RoundingState rounding;
  std::vector<std::string> notes;  // of the writers (formats::KeptArtifact), in order
  std::string streams;             // file in state/ with the hidden states; "": none
};

// Of the whole run so far.
struct RunTotals {
  double seconds = 0;
  record::StageSeconds stages;
  std::vector<std::string> warnings;
  std::uint64_t log_bytes = 0;  // of log.jsonl
  std::uint64_t peak_bytes = 0;
};

// A setting or a file that has to be as it was: its name, and what it says.
using Fields = std::vector<std::pair<std::string, std::string>>;

struct RunProgress {
  std::string id;                        // of the run, in the locks of its exports
  std::map<std::string, Fields> fields;  // by group: "settings", "model", ...
  std::map<std::size_t, PassProgress> passes;
  std::set<std::size_t> exports;  // that are finished
  RunTotals totals;
  int resumed = 0;

  bool has_finished_something() const { return !passes.empty() || !exports.empty(); }
};

// Records of the journal (io/journal.h): one line of JSON each.
std::string begin_record(const std::string& run_id);
std::string resumed_record();
std::string fields_record(const std::string& group, const Fields& fields);
std::string export_record(std::size_t index, const RunTotals& totals);
// Modules and tensors are those that `before` does not have yet.
std::string pass_record(std::size_t pass, const PassProgress& now, const PassProgress& before,
                        const RunTotals& totals);

// What the records come to. The modules' grids are left out: the plan knows them. Error(kInput,
// "E307") for a record that is none of these.
RunProgress read_progress(const std::vector<std::string>& records);

}  // namespace calque::resume
