#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calque/core/stopwatch.h"
#include "calque/io/journal.h"
#include "calque/io/lock_file.h"
#include "calque/io/state_file.h"
#include "calque/job/job.h"
#include "calque/resume/progress.h"
#include "calque/resume/saved_run.h"
#include "calque/text/corpus.h"

namespace calque::resume {

enum class Resume {
  kAuto,   // go on where an unfinished run in job.run_dir stopped
  kNever,  // start anew
};

// Whether `run_dir` holds a run that was interrupted.
bool can_resume(const std::filesystem::path& run_dir);

// Something that outlives a block of a pass and is saved between two of them, beside what the
// journal tells: hidden states, say, or whatever a layer leaves for later ones.
struct StatePart {
  std::string name;
  std::uint64_t bytes = 0;  // that saving writes, about; 0: few
  std::function<void(const io::ByteSink&)> save;
  std::function<void(const io::ByteSource&)> load;
};

// `run_dir`/state: what a run that was interrupted has finished, so that another process goes on
// from there. state/journal says it record by record, state/pass-*.bin hold the hidden states
// between two blocks, and what the writers were given is in the partial files of the exports.
// state/lock keeps a second run out, and so does a lock beside each export's partial files.
// An empty run_dir, or runtime.checkpoint: off, saves nothing.
class RunFolder {
 public:
  // Error(kConfig): "E306" while another process works in the folder, "E305" where the job has
  // changed. Error(kInput, "E307") for a damaged journal.
  // `settings`: the job's keys and values by path, compared when a run goes on; none: the caller
  // sees to it that they are the same. `saved` is kept up to date.
  RunFolder(const job::Job& job, Resume resume, const Fields& settings, SavedRun& saved);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();  // leaves nothing behind if nothing was saved

  // Whether a part of the run is finished already.
  bool goes_on() const { return goes_on_; }
  const RunProgress& progress() const { return progress_; }
  const PassProgress& pass(std::size_t number) const;
  std::filesystem::path folder() const { return folder_; }

  // Compare with what the run began with, or note it. Error(kConfig, "E305") naming the first thing
  // that differs, with both values.
  void require_devices(const job::StageDevices& devices, const std::string& forward_dtype);
  void require_calibration(const text::Manifest& manifest);
  // Where the totals come from that go into each record.
  void set_totals(std::function<RunTotals()> totals) { totals_ = std::move(totals); }

  // Whether to save after a block, of which `bytes` would have to reach the disk: always, never, or
  // as long as the time that all saving takes stays below a share of the run's.
  bool is_due(std::uint64_t bytes) const;
  bool saves() const { return journal_.has_value(); }
  // Everything that `now` tells of is on the disk already. Saving took `seconds` for `bytes`.
  void save(std::size_t pass, PassProgress now, std::uint64_t bytes, double seconds);
  void export_finished(std::size_t index);

  // Parts in one file of the folder, by name and in order; returns the file's name, "" for no
  // parts. It is on the disk afterwards.
  std::string write_parts(const std::string& file, const std::vector<StatePart>& parts) const;
  // Error(kInput, "E307") where the file is damaged or holds other parts.
  void read_parts(const std::string& file, const std::vector<StatePart>& parts) const;
  // The run is done: removes the folder.
  void finish();

 private:
  void require(const std::string& group, const Fields& fields);
  void open_journal(Resume resume);
  void lock_exports();
  void clear();
  void remove_folder();
  void remove_partial_files() const;
  void tell_what_is_saved() const;

  const job::Job& job_;
  SavedRun& saved_;
  std::filesystem::path folder_;
  std::unique_ptr<io::LockFile> lock_;
  std::vector<std::unique_ptr<io::LockFile>> export_locks_;
  std::optional<io::Journal> journal_;
  RunProgress progress_;
  bool goes_on_ = false;
  std::function<RunTotals()> totals_;
  Stopwatch watch_;
  double saving_seconds_ = 0;
  std::uint64_t saved_bytes_ = 0;
};

}  // namespace calque::resume
