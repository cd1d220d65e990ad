#include "resume/run_state.h"

#include <fmt/format.h>

#include <random>
#include <system_error>
#include <utility>

#include "calque/formats/reader.h"
#include "calque/core/error.h"
#include "calque/resume/saved_run.h"
#include "resume/run_fields.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;

constexpr double kShareOfSaving = 0.03;    // of the run's time, with checkpoint: auto
constexpr double kBytesPerSecond = 500e6;  // until the first save has measured it
constexpr double kSmallestSave = 0.01;     // seconds: three files are synced

std::string new_run_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

std::string quoted(const fs::path& path) {
  const std::string text = path.string();
  return text.find_first_of(" '\"$&()") == std::string::npos ? text : "\"" + text + "\"";
}

fs::path lock_of(const formats::ExportRequest& request) {
  fs::path path = request.path.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path += ".partial.lock";
}

std::string saved_blocks(const PassProgress& pass) {
  if (pass.complete) return "All blocks are";
  return pass.blocks == 1 ? "Block 0 is" : fmt::format("Blocks 0-{} are", pass.blocks - 1);
}

}  // namespace

RunState::RunState(const job::Job& job, const pipeline::RunOptions& options) : job_(job) {
  set_saved_run("");
  if (job.run_dir.empty()) return;
  folder_ = job.run_dir / "state";
  lock_ = std::make_unique<io::LockFile>(folder_ / "lock", "run_dir " + job.run_dir.string());
  open_journal(options.resume);
  lock_->hold_as(progress_.id);
  if (!options.settings.empty()) require("settings", settings_fields(options.settings));
  if (journal_) require("model", model_fields(job));
  try {
    lock_exports();
  } catch (...) {
    if (!goes_on_) clear();
    if (!goes_on_) remove_folder();
    throw;
  }
  if (!goes_on_) return;
  journal_->append(resumed_record());
  ++progress_.resumed;
  tell_what_is_saved();
}

void RunState::open_journal(pipeline::Resume resume) {
  const fs::path path = folder_ / "journal";
  if (resume == pipeline::Resume::kAuto && fs::exists(path)) {
    io::Journal journal(path);
    RunProgress progress = read_progress(journal.records());
    if (progress.has_finished_something()) {
      progress_ = std::move(progress);
      journal_.emplace(std::move(journal));
      goes_on_ = true;
      return;
    }
  }
  clear();
  progress_.id = new_run_id();
  if (job_.runtime.checkpoint != "off") journal_.emplace(path, begin_record(progress_.id));
}

// Exports of a run are locked one by one, so that two jobs that write other files do not meet.
void RunState::lock_exports() {
  for (std::size_t i = 0; i < job_.exports.size(); ++i) {
    const formats::ExportRequest& request = job_.exports[i];
    auto lock = std::make_unique<io::LockFile>(lock_of(request), request.path.string());
    const bool finished = progress_.exports.count(i) > 0;
    if (finished && lock->last_holder() != progress_.id) continue;
    if (goes_on_ && !lock->last_holder().empty() && lock->last_holder() != progress_.id)
      throw Error(ErrorKind::kInput, "E308",
                  fmt::format("cannot go on: another run has begun {} since. Start anew with "
                              "--resume never",
                              request.path.string()));
    lock->hold_as(progress_.id);
    if (goes_on_)
      lock->keep();
    else
      lock->drop();
    export_locks_.push_back(std::move(lock));
  }
}

// What was saved is told of until the next run begins: the error that ends this one wants it.
RunState::~RunState() {
  if (!journal_ || progress_.has_finished_something()) return;
  remove_partial_files();
  clear();
  remove_folder();
}

// When it is empty but for the lock.
void RunState::remove_folder() {
  lock_->drop();
  lock_.reset();
  std::error_code ignored;
  fs::remove(folder_, ignored);
}

void RunState::clear() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored))
    if (entry.path().filename() != "lock") fs::remove_all(entry.path(), ignored);
}

// What the writers had kept for a record that could not be written.
void RunState::remove_partial_files() const {
  std::error_code ignored;
  for (const formats::ExportRequest& request : job_.exports)
    for (const fs::path& path : formats::partial_files_at(request)) fs::remove_all(path, ignored);
}

const PassProgress& RunState::pass(std::size_t number) const {
  static const PassProgress kNothing;
  const auto found = progress_.passes.find(number);
  return found == progress_.passes.end() ? kNothing : found->second;
}

void RunState::require(const std::string& group, const Fields& fields) {
  if (!journal_) return;
  const auto before = progress_.fields.find(group);
  if (before != progress_.fields.end()) return require_same(fields, before->second);
  journal_->append(fields_record(group, fields));
  progress_.fields[group] = fields;
}

bool RunState::is_due(std::uint64_t bytes) const {
  if (!journal_ || job_.runtime.checkpoint == "off") return false;
  if (job_.runtime.checkpoint == "block") return true;
  const double rate =
      saved_bytes_ > 0 ? static_cast<double>(saved_bytes_) / saving_seconds_ : kBytesPerSecond;
  const double seconds = kSmallestSave + static_cast<double>(bytes) / rate;
  return saving_seconds_ + seconds <= kShareOfSaving * watch_.seconds();
}

// Told first: a signal may come as soon as the record is there.
void RunState::save(std::size_t pass, PassProgress now, std::uint64_t bytes, double seconds) {
  const PassProgress before = this->pass(pass);
  const std::string told = saved_run();
  const std::string record = pass_record(pass, now, before, totals_());
  progress_.passes[pass] = std::move(now);
  tell_what_is_saved();
  for (const auto& lock : export_locks_) lock->keep();
  try {
    journal_->append(record);
  } catch (...) {
    progress_.passes[pass] = before;
    if (before.blocks == 0) progress_.passes.erase(pass);
    set_saved_run(told);
    if (!progress_.has_finished_something())
      for (const auto& lock : export_locks_) lock->drop();
    throw;
  }
  saved_bytes_ += bytes;
  saving_seconds_ += seconds;
  std::error_code ignored;
  if (!before.streams.empty() && before.streams != progress_.passes[pass].streams)
    fs::remove(folder_ / before.streams, ignored);
}

void RunState::export_finished(std::size_t index) {
  if (journal_) journal_->append(export_record(index, totals_()));
  progress_.exports.insert(index);
  if (journal_) tell_what_is_saved();
}

void RunState::tell_what_is_saved() const {
  std::string sentence;
  const std::size_t exports = progress_.exports.size();
  if (exports > 0)
    sentence = fmt::format("{} of {} exports {} finished. ", exports, job_.exports.size(),
                           exports == 1 ? "is" : "are");
  if (exports < job_.exports.size() && !progress_.passes.empty())
    sentence += saved_blocks(progress_.passes.rbegin()->second) + " saved";
  else
    sentence += "What is left can be done later";
  set_saved_run(fmt::format("{}: calque resume {}", sentence, quoted(job_.run_dir)));
}

void RunState::finish() {
  for (const auto& lock : export_locks_) lock->drop();
  export_locks_.clear();
  if (lock_ == nullptr) return;
  // The journal goes first: without it, the rest means nothing.
  std::error_code ignored;
  fs::remove(folder_ / "journal", ignored);
  clear();
  journal_.reset();
  remove_folder();
  set_saved_run("");
}

}  // namespace calque::resume
