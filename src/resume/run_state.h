#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/io/journal.h"
#include "calque/io/lock_file.h"
#include "calque/job/job.h"
#include "calque/pipeline/quantize_model.h"
#include "resume/run_records.h"
#include "pipeline/stopwatch.h"

namespace calque::resume {

// `run_dir`/state: what a run that was interrupted has finished, so that another process goes on
// from there. state/journal says it record by record, state/pass-*.bin hold the hidden states
// between two blocks, and what the writers were given is in the partial files of the exports.
// state/lock keeps a second run out, and so does a lock beside each export's partial files.
// An empty run_dir, or runtime.checkpoint: off, saves nothing.
class RunState {
 public:
  // Error(kConfig): "E306" while another process works in the folder, "E305" where the job has
  // changed. Error(kInput, "E307") for a damaged journal.
  RunState(const job::Job& job, const pipeline::RunOptions& options);
  RunState(const RunState&) = delete;
  RunState& operator=(const RunState&) = delete;
  ~RunState();  // leaves nothing behind if nothing was saved

  // Whether a part of the run is finished already.
  bool goes_on() const { return goes_on_; }
  const RunProgress& progress() const { return progress_; }
  const PassProgress& pass(std::size_t number) const;
  std::filesystem::path folder() const { return folder_; }

  // Compares with what the run began with, or notes it. Error(kConfig, "E305").
  void require(const std::string& group, const Fields& fields);
  // Where the totals come from that go into each record.
  void set_totals(std::function<RunTotals()> totals) { totals_ = std::move(totals); }

  // Whether to save after a block, of which `bytes` would have to reach the disk: always, never, or
  // as long as the time that all saving takes stays below a share of the run's.
  bool is_due(std::uint64_t bytes) const;
  bool saves() const { return journal_.has_value(); }
  // Everything that `now` tells of is on the disk already. Saving took `seconds` for `bytes`.
  void save(std::size_t pass, PassProgress now, std::uint64_t bytes, double seconds);
  void export_finished(std::size_t index);
  // The run is done: removes the folder.
  void finish();

 private:
  void open_journal(pipeline::Resume resume);
  void lock_exports();
  void clear();
  void remove_folder();
  void remove_partial_files() const;
  void tell_what_is_saved() const;

  const job::Job& job_;
  std::filesystem::path folder_;
  std::unique_ptr<io::LockFile> lock_;
  std::vector<std::unique_ptr<io::LockFile>> export_locks_;
  std::optional<io::Journal> journal_;
  RunProgress progress_;
  bool goes_on_ = false;
  std::function<RunTotals()> totals_;
  pipeline::Stopwatch watch_;
  double saving_seconds_ = 0;
  std::uint64_t saved_bytes_ = 0;
};

}  // namespace calque::resume
