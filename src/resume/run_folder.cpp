#include "calque/resume/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <set>
#include <system_error>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/paths.h"
#include "calque/core/quote.h"
#include "calque/formats/reader.h"
#include "calque/formats/side_files.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/sha256.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;

constexpr double kShareOfSaving = 0.03;     // share of the run's time, with checkpoint: auto
constexpr double kBytesPerSecond = 500e6;   // assumed until the first save has measured it
constexpr double kSmallestSave = 0.01;      // seconds: three files are synced
constexpr double kHashedPerSecond = 1.5e9;  // bytes of the model, before the first save

std::string new_run_id() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

fs::path lock_of(const formats::ExportRequest& request) {
  return without_end_slash(request.path) += ".partial.lock";
}

std::string saved_blocks(const PassProgress& pass) {
  if (pass.complete) return "All blocks are";
  return pass.blocks == 1 ? "Block 0 is" : fmt::format("Blocks 0-{} are", pass.blocks - 1);
}

constexpr std::uint64_t kHashedWhole = std::uint64_t{8} << 30;
constexpr std::string_view kSha256 = "sha256 ";
constexpr std::string_view kSampled = "sampled sha256 ";

bool cannot_change_the_result(const std::string& key) {
  static const std::set<std::string> kKeys = {"run_dir", "runtime.threads", "runtime.max_ram",
                                              "runtime.offload_dir", "runtime.checkpoint"};
  return kKeys.count(key) > 0;
}

bool is_weights(const fs::path& file) {
  return file.extension() == ".safetensors" || file.extension() == ".gguf";
}

// Weights in other formats in the same folder are not read, so they do not count.
bool counts(const fs::directory_entry& entry) {
  constexpr std::uint64_t kLargestSideFile = std::uint64_t{256} << 20;
  return entry.is_regular_file() &&
         (is_weights(entry.path()) || entry.file_size() <= kLargestSideFile);
}

std::vector<fs::path> files_of_model(const fs::path& model) {
  if (!fs::is_directory(model)) return io::gguf_files_of(model);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model))
    if (counts(entry)) files.push_back(entry.path());
  for (const fs::path& file : formats::side_files(model).copied)
    if (file.has_parent_path()) files.push_back(model / file);  // chat templates
  std::sort(files.begin(), files.end());
  return files;
}

// Relative to the model's folder, or to the first GGUF file's.
std::string name_in_model(const fs::path& file, const fs::path& model) {
  return fs::is_directory(model) ? file.lexically_relative(model).generic_string()
                                 : file.filename().string();
}

std::string sampled_sha256(const fs::path& path) {
  constexpr std::size_t kStep = std::size_t{1} << 20, kSample = 4096;
  const io::MappedFile file(path);
  const auto bytes = file.bytes();
  std::vector<std::byte> samples;
  for (std::size_t at = 0; at < bytes.size(); at += kStep) {
    const auto part = bytes.subspan(at, std::min(kSample, bytes.size() - at));
    samples.insert(samples.end(), part.begin(), part.end());
  }
  const auto changed = fs::last_write_time(path).time_since_epoch().count();
  const std::string facts = fmt::format("{} {}", bytes.size(), changed);
  const auto facts_bytes = std::as_bytes(std::span(facts.data(), facts.size()));
  samples.insert(samples.end(), facts_bytes.begin(), facts_bytes.end());
  return std::string(kSampled) + io::sha256_hex(samples);
}

std::string sha256_of(const fs::path& path) {
  return std::string(kSha256) + io::sha256_hex_of_file(path);
}

[[noreturn]] void refuse(const std::string& difference) {
  throw Error(
      ErrorKind::kConfig, "E305",
      fmt::format("cannot resume: {}. Restore it to continue, or start again with --resume never",
                  difference));
}

// "sha256 ab12cd..": the first digits are enough.
std::string shortened(const std::string& value, std::string_view kind) {
  return value.substr(kind.size(), 12) + "..";
}

[[noreturn]] void refuse(const std::string& name, const std::string& now,
                         const std::string& before) {
  for (const std::string_view kind : {kSha256, kSampled})
    if (now.starts_with(kind) && before.starts_with(kind))
      refuse(fmt::format("{} changed ({}{} -> {})", name, kind, shortened(before, kind),
                         shortened(now, kind)));
  refuse(fmt::format("{} is {}, was {}", name, now, before));
}

// Leaves out keys of the job file that cannot change the result (threads, max_ram, ...).
Fields settings_fields(const Fields& settings) {
  Fields fields;
  for (const auto& [key, value] : settings)
    if (!cannot_change_the_result(key)) fields.emplace_back(key, value);
  if (!fields.empty()) fields.emplace_back("the version of calque", CALQUE_VERSION);
  return fields;
}

// Files of the model, and the imatrix. Above 8 GiB in total, weights are compared by size,
// modification time, header and 4 KiB of every MiB, instead of by all bytes.
Fields model_fields(const job::Job& job) {
  Fields fields;
  const std::vector<fs::path> files = files_of_model(job.model.path);
  std::uint64_t bytes = 0;
  for (const fs::path& file : files) bytes += fs::file_size(file);
  for (const fs::path& file : files) {
    const bool sampled = bytes > kHashedWhole && is_weights(file);
    fields.emplace_back(
        (is_weights(file) ? "model shard " : "model file ") + name_in_model(file, job.model.path),
        sampled ? sampled_sha256(file) : sha256_of(file));
  }
  if (fs::exists(job.quantization.imatrix))
    fields.emplace_back("imatrix " + job.quantization.imatrix.filename().string(),
                        sha256_of(job.quantization.imatrix));
  return fields;
}

Fields device_fields(const job::StageDevices& devices, const std::string& forward_dtype) {
  Fields fields;
  for (const record::NamedStageDevice& stage : record::kStageDevices)
    fields.emplace_back("the device of " + std::string(stage.name), devices.*stage.device);
  fields.emplace_back("the precision of the forward pass", forward_dtype);
  return fields;
}

Fields calibration_fields(const text::Manifest& manifest) {
  Fields fields;
  for (const text::SourceReport& source : manifest.sources)
    fields.emplace_back("calibration text " + source.path, std::string(kSha256) + source.sha256);
  fields.emplace_back("the calibration tokens", std::string(kSha256) + manifest.tokens_sha256);
  return fields;
}

// Error(kConfig, "E305") naming the first field that differs, with both values.
void require_same(const Fields& now, const Fields& before) {
  const auto find = [](const Fields& fields, const std::string& name) {
    return std::find_if(fields.begin(), fields.end(),
                        [&](const auto& field) { return field.first == name; });
  };
  for (const auto& [name, value] : before) {
    const auto there = find(now, name);
    if (there == now.end()) refuse(fmt::format("{} is gone, was {}", name, value));
    if (there->second != value) refuse(name, there->second, value);
  }
  for (const auto& [name, value] : now)
    if (find(before, name) == before.end()) refuse(fmt::format("{} is new ({})", name, value));
}

constexpr std::size_t kTitle = 32;

// The title of a part in a file: its name, padded with zeros.
std::array<char, kTitle> title_of(const StatePart& part) {
  std::array<char, kTitle> title{};
  part.name.copy(title.data(), kTitle);
  return title;
}

}  // namespace

bool can_resume(const fs::path& run_dir) { return fs::exists(run_dir / "state" / "journal"); }

RunFolder::RunFolder(const job::Job& job, Resume resume, const Fields& settings, SavedRun& saved)
    : job_(job), saved_(saved) {
  saved_.tell("");
  if (job.run_dir.empty()) return;
  folder_ = job.run_dir / "state";
  lock_ = std::make_unique<io::LockFile>(folder_ / "lock", "run_dir " + job.run_dir.string());
  open_journal(resume);
  lock_->hold_as(progress_.id);
  if (!settings.empty()) require("settings", settings_fields(settings));
  if (journal_) require_model();
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

void RunFolder::open_journal(Resume resume) {
  const fs::path path = folder_ / "journal";
  if (resume == Resume::kAuto && fs::exists(path)) {
    io::Journal journal(path);
    RunProgress progress = read_progress(journal.records());
    if (progress.has_finished_something()) {
      progress_ = std::move(progress);
      journal_.emplace(std::move(journal));
      goes_on_ = true;
      return;
    }
  }
  if (fs::exists(path)) forget(path);
  clear();
  progress_.id = new_run_id();
  if (job_.runtime.checkpoint != "off")
    journal_.emplace(path, begin_record(progress_.id, job_.exports));
}

// Removes the partial files of a run that nobody continues. Its exports may be others than the
// job's. Files that another run has begun since are left alone.
void RunFolder::forget(const fs::path& journal) const {
  try {
    const RunProgress before = read_progress(io::Journal(journal).records());
    for (const formats::ExportRequest& request : before.begun) {
      io::LockFile lock(lock_of(request), request.path.string());
      if (lock.last_holder() != before.id) continue;
      std::error_code ignored;
      for (const fs::path& file : formats::partial_files_at(request)) fs::remove_all(file, ignored);
      lock.drop();
    }
  } catch (const Error&) {  // a damaged journal, or files in use: they stay
  }
}

// Locks the exports one by one, so that two jobs that write different files can run together.
void RunFolder::lock_exports() {
  for (std::size_t i = 0; i < job_.exports.size(); ++i) {
    const formats::ExportRequest& request = job_.exports[i];
    auto lock = std::make_unique<io::LockFile>(lock_of(request), request.path.string());
    const bool finished = progress_.exports.count(i) > 0;
    if (finished && lock->last_holder() != progress_.id) continue;
    if (goes_on_ && !lock->last_holder().empty() && lock->last_holder() != progress_.id)
      throw Error(ErrorKind::kInput, "E308",
                  fmt::format("cannot resume: another run has begun {} since. Start again with "
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

// Keeps `saved_` after a run with saved work: the error that ends the run needs it.
RunFolder::~RunFolder() {
  if (!journal_ || progress_.has_finished_something()) return;
  remove_partial_files();
  clear();
  remove_folder();
}

// Removes the folder's contents, and with the lock the folder itself.
void RunFolder::remove_folder() {
  lock_->drop();
  lock_.reset();
  std::error_code ignored;
  fs::remove(folder_, ignored);
}

void RunFolder::clear() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored))
    if (entry.path().filename() != "lock") fs::remove_all(entry.path(), ignored);
}

// Removes files that the writers had kept for a record that could not be written.
void RunFolder::remove_partial_files() const {
  std::error_code ignored;
  for (const formats::ExportRequest& request : job_.exports)
    for (const fs::path& path : formats::partial_files_at(request)) fs::remove_all(path, ignored);
}

const PassProgress& RunFolder::pass(std::size_t number) const {
  static const PassProgress kNothing;
  const auto found = progress_.passes.find(number);
  return found == progress_.passes.end() ? kNothing : found->second;
}

void RunFolder::require(const std::string& group, const Fields& fields) {
  if (!journal_) return;
  const auto before = progress_.fields.find(group);
  if (before != progress_.fields.end()) return require_same(fields, before->second);
  waiting_.push_back(fields_record(group, fields));
  progress_.fields[group] = fields;
}

void RunFolder::require_model() {
  if (progress_.fields.contains("model")) return require("model", model_fields(job_));
  for (const fs::path& file : files_of_model(job_.model.path)) {
    model_stamps_ += io::stamp_of(file);
    model_bytes_ += fs::file_size(file);
  }
}

// Appends what the journal lacks before its first record of progress.
void RunFolder::write_down() {
  if (!model_stamps_.empty()) {
    std::string stamps;
    for (const fs::path& file : files_of_model(job_.model.path)) stamps += io::stamp_of(file);
    require("model", stamps == model_stamps_ ? model_fields(job_)
                                             : Fields{{"the model", "changed during the run"}});
    model_stamps_.clear();
  }
  for (const std::string& record : waiting_) journal_->append(record);
  waiting_.clear();
}

void RunFolder::require_devices(const job::StageDevices& devices,
                                const std::string& forward_dtype) {
  require("devices", device_fields(devices, forward_dtype));
}

void RunFolder::require_calibration(const text::Manifest& manifest) {
  require("calibration", calibration_fields(manifest));
}

bool RunFolder::is_due(std::uint64_t bytes) const {
  if (!journal_ || job_.runtime.checkpoint == "off") return false;
  if (job_.runtime.checkpoint == "block") return true;
  const double rate =
      saved_bytes_ > 0 ? static_cast<double>(saved_bytes_) / saving_seconds_ : kBytesPerSecond;
  const double first =
      model_stamps_.empty() ? 0 : static_cast<double>(model_bytes_) / kHashedPerSecond;
  const double seconds = kSmallestSave + static_cast<double>(bytes) / rate;
  // The last save, which may be forced, is as large as this one.
  return saving_seconds_ + first + 2 * seconds <= kShareOfSaving * watch_.seconds();
}

bool RunFolder::is_end_due(std::uint64_t bytes, bool follows) const {
  return journal_ && (follows || has_recorded() || is_due(bytes));
}

// Sets the message first: a signal may arrive as soon as the record is written.
void RunFolder::save(std::size_t pass, PassProgress now, std::uint64_t bytes, double seconds) {
  const PassProgress before = this->pass(pass);
  const std::string told = saved_.sentence();
  const std::string record = pass_record(pass, now, before, totals_());
  progress_.passes[pass] = std::move(now);
  tell_what_is_saved();
  for (const auto& lock : export_locks_) lock->keep();
  const Stopwatch writing;
  try {
    write_down();
    journal_->append(record);
  } catch (...) {
    progress_.passes[pass] = before;
    if (before.blocks == 0) progress_.passes.erase(pass);
    saved_.tell(told);
    if (!progress_.has_finished_something())
      for (const auto& lock : export_locks_) lock->drop();
    throw;
  }
  saved_bytes_ += bytes;
  saving_seconds_ += seconds + writing.seconds();
  std::error_code ignored;
  if (!before.streams.empty() && before.streams != progress_.passes[pass].streams)
    fs::remove(folder_ / before.streams, ignored);
}

void RunFolder::export_finished(std::size_t index) {
  if (!has_recorded()) return;
  journal_->append(export_record(index, totals_()));
  progress_.exports.insert(index);
  tell_what_is_saved();
}

void RunFolder::evaluation_finished(const record::EvaluationReport& text) {
  if (has_recorded()) journal_->append(evaluation_record(text, totals_()));
  progress_.evaluations.push_back(text);
}

void RunFolder::evaluation_finished(const record::TaskReport& task) {
  if (has_recorded()) journal_->append(task_record(task, totals_()));
  progress_.tasks.push_back(task);
}

std::string RunFolder::write_parts(const std::string& file,
                                   const std::vector<StatePart>& parts) const {
  if (parts.empty()) return "";
  io::StateFileWriter writer(folder_ / file);
  const io::ByteSink sink = [&](std::span<const std::byte> bytes) { writer.write(bytes); };
  for (const StatePart& part : parts) {
    const std::array<char, kTitle> title = title_of(part);
    writer.write(std::as_bytes(std::span(title)));
    part.save(sink);
  }
  writer.commit();
  return file;
}

void RunFolder::read_parts(const std::string& file, const std::vector<StatePart>& parts) const {
  io::StateFileReader reader(folder_ / file);
  const io::ByteSource source = [&](std::span<std::byte> bytes) { reader.read(bytes); };
  for (const StatePart& part : parts) {
    std::array<char, kTitle> title;
    reader.read(std::as_writable_bytes(std::span(title)));
    if (title != title_of(part))
      throw Error(ErrorKind::kInput, "E307",
                  fmt::format("{} does not contain the {}. Start again with --resume never",
                              (folder_ / file).string(), part.name));
    part.load(source);
  }
  reader.finish();
}

void RunFolder::tell_what_is_saved() const {
  std::string sentence;
  const std::size_t exports = progress_.exports.size();
  if (exports > 0)
    sentence = fmt::format("{} of {} exports {} finished. ", exports, job_.exports.size(),
                           exports == 1 ? "is" : "are");
  if (exports < job_.exports.size() && !progress_.passes.empty())
    sentence += saved_blocks(progress_.passes.rbegin()->second) + " saved";
  else
    sentence += "The rest can be done later";
  saved_.tell(fmt::format("{}: calque resume {}", sentence, shell_quoted(job_.run_dir)));
}

void RunFolder::finish() {
  for (const auto& lock : export_locks_) lock->drop();
  export_locks_.clear();
  if (lock_ == nullptr) return;
  // Removes the journal first: without it, the rest has no meaning.
  std::error_code ignored;
  fs::remove(folder_ / "journal", ignored);
  clear();
  journal_.reset();
  remove_folder();
  saved_.tell("");
}

}  // namespace calque::resume
