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
  kAuto,   // continue an unfinished run in job.run_dir
  kNever,  // start from the beginning
};

// True if `run_dir` holds an interrupted run.
bool can_resume(const std::filesystem::path& run_dir);

// A piece of state that is carried from block to block and saved between blocks, in addition to the
// journal: hidden states, or rows that a layer leaves for later ones.
struct StatePart {
  std::string name;
  std::uint64_t bytes = 0;  // approximate size when saved; 0: small
  std::function<void(const io::ByteSink&)> save;
  std::function<void(const io::ByteSource&)> load;
};

// The folder `run_dir`/state: finished work of an interrupted run, from which another process can
// continue. state/journal lists it record by record, state/pass-*.bin hold the hidden states
// between two blocks, and finished tensors are in the partial files of the exports. state/lock
// keeps a second run out, and so does a lock next to each export's partial files. Saves nothing if
// run_dir is empty or runtime.checkpoint is off.
class RunFolder {
 public:
  // Error(kConfig): "E306" while another process works in the folder, "E305" if the job has
  // changed. Error(kInput, "E307") for a damaged journal. `settings` are the job's keys and values
  // by path, compared when a run is resumed; empty: the caller makes sure that they are the same.
  // `saved` is kept up to date.
  RunFolder(const job::Job& job, Resume resume, const Fields& settings, SavedRun& saved);
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;
  ~RunFolder();  // removes the folder if nothing was saved

  // True if part of the run is already finished.
  bool goes_on() const { return goes_on_; }
  const RunProgress& progress() const { return progress_; }
  const PassProgress& pass(std::size_t number) const;
  std::filesystem::path folder() const { return folder_; }

  // Compare with the values that the run began with, or record them. Error(kConfig, "E305") names
  // the first difference, with both values.
  void require_devices(const job::StageDevices& devices, const std::string& forward_dtype);
  void require_calibration(const text::Manifest& manifest);
  // Sets the source of the totals that go into each record.
  void set_totals(std::function<RunTotals()> totals) { totals_ = std::move(totals); }

  // True if the state should be saved after a block, given the `bytes` that must reach the disk:
  // always, never, or as long as saving takes less than a fixed share of the run's time.
  bool is_due(std::uint64_t bytes) const;
  // The same after the last block of a pass, before its exports are finished. What has begun to be
  // saved, or what more work `follows`, is saved in any case: a run that goes on would miss the
  // partial files otherwise.
  bool is_end_due(std::uint64_t bytes, bool follows) const;
  bool saves() const { return journal_.has_value(); }
  // Everything in `now` must already be on disk. Saving took `seconds` for `bytes`.
  void save(std::size_t pass, PassProgress now, std::uint64_t bytes, double seconds);
  void export_finished(std::size_t index);
  void evaluation_finished(const record::EvaluationReport& text);
  void evaluation_finished(const record::TaskReport& task);

  // Writes the parts to one file of the folder, in order, and syncs it. Returns the file's name, ""
  // if there are no parts.
  std::string write_parts(const std::string& file, const std::vector<StatePart>& parts) const;
  // Error(kInput, "E307") if the file is damaged or holds other parts.
  void read_parts(const std::string& file, const std::vector<StatePart>& parts) const;
  // Removes the folder; call it when the run is done.
  void finish();

 private:
  void require(const std::string& group, const Fields& fields);
  void require_model();
  bool has_recorded() const { return journal_.has_value() && !progress_.passes.empty(); }
  void write_down();
  void open_journal(Resume resume);
  void forget(const std::filesystem::path& journal) const;
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
  // A run that saves nothing does without these: records that wait for the first one of progress,
  // and the hashes of the model's files, whose sizes and times must be as when the run began.
  std::vector<std::string> waiting_;
  std::string model_stamps_;
  std::uint64_t model_bytes_ = 0;
  Stopwatch watch_;
  double saving_seconds_ = 0;
  std::uint64_t saved_bytes_ = 0;
};

}  // namespace calque::resume
