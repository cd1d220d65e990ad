#include "pipeline/run_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/record/modules_csv.h"
#include "calque/record/report_json.h"

namespace calque::pipeline {
namespace {

// Keeps the file's first `bytes`.
std::ofstream open_log(const std::filesystem::path& path, std::uint64_t bytes = 0) {
  std::error_code missing;
  const std::uint64_t there = bytes == 0 ? 0 : std::filesystem::file_size(path, missing);
  if (bytes > 0 && !missing && there > bytes) std::filesystem::resize_file(path, bytes, missing);
  std::ofstream stream(path, bytes == 0 ? std::ios::out : std::ios::app);
  if (!stream)
    throw Error(ErrorKind::kResource, "E303",
                fmt::format("cannot write '{}'; choose another run_dir", path.string()));
  return stream;
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, record::Observer& next,
               const resume::RunProgress& before)
    : folder_(folder),
      next_(next),
      seconds_before_(before.totals.seconds),
      warnings_(before.totals.warnings) {
  if (folder_.empty()) return;
  std::filesystem::create_directories(folder_);
  modules_csv_ = open_log(folder_ / "modules.csv");
  log_jsonl_ = open_log(folder_ / "log.jsonl", before.totals.log_bytes);
  modules_csv_ << record::modules_csv_header() << std::flush;
  check(modules_csv_, "modules.csv");
}

std::uint64_t RunLog::log_bytes() {
  return log_jsonl_.is_open() ? static_cast<std::uint64_t>(log_jsonl_.tellp()) : 0;
}

void RunLog::check(const std::ofstream& stream, const char* name) const {
  if (stream) return;
  throw Error(ErrorKind::kResource, "E302",
              fmt::format("{}: cannot write: {}. Free space or choose another run_dir",
                          (folder_ / name).string(),
                          std::generic_category().message(errno == 0 ? ENOSPC : errno)));
}

void RunLog::phase_started(const std::string& title, Index steps) {
  phase_ = title;
  log("phase", fmt::format(R"("title":{},"steps":{})", io::json_string(title), steps));
  next_.phase_started(title, steps);
}

void RunLog::write_row(const record::ModuleReport& m) {
  if (!modules_csv_.is_open()) return;
  modules_csv_ << record::modules_csv_row(m) << std::flush;
  check(modules_csv_, "modules.csv");
}

void RunLog::module_done(const record::ModuleReport& m) {
  const quant::RoundingReport& r = m.rounding;
  write_row(m);
  log("module",
      fmt::format(R"("block":{},"module":{},"method":{},"rel_error":{:.6g},"seconds":{:.3f})",
                  m.block, io::json_string(m.module), io::json_string(r.method), r.relative_error,
                  m.seconds));
  next_.module_done(m);
}

void RunLog::block_done(Index block, Index blocks, double seconds) {
  log("block", fmt::format(R"("block":{},"blocks":{},"seconds":{:.3f})", block, blocks, seconds));
  next_.block_done(block, blocks, seconds);
}

void RunLog::note(const std::string& line) {
  log("note", fmt::format(R"("text":{})", io::json_string(line)));
  next_.note(line);
}

// Warnings given at the start of a job are not repeated when it is resumed.
void RunLog::warning(const std::string& line) {
  if (seconds_before_ > 0 && std::count(warnings_.begin(), warnings_.end(), line) > 0) return;
  warnings_.push_back(line);
  log("warning", fmt::format(R"("text":{})", io::json_string(line)));
  next_.warning(line);
}

void RunLog::finish(const record::Report& report) {
  log("done", fmt::format(R"("warnings":{},"peak_bytes":{})", warnings_.size(), report.peak_bytes));
  if (folder_.empty()) return;
  io::write_file(folder_ / "calibration_manifest.json", record::manifest_json(report.calibration));
  io::write_file(folder_ / "metrics.json", report_json(report));
}

void RunLog::log(const std::string& event, const std::string& fields) {
  if (!log_jsonl_.is_open()) return;
  log_jsonl_ << fmt::format(R"({{"seconds":{:.3f},"event":"{}",{}}})",
                            seconds_before_ + watch_.seconds(), event, fields)
             << std::endl;
  check(log_jsonl_, "log.jsonl");
}

}  // namespace calque::pipeline
