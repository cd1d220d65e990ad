#include "pipeline/run_log.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/pipeline/report_json.h"

namespace calque::pipeline {
namespace {

std::ofstream open_log(const std::filesystem::path& path) {
  std::ofstream stream(path);
  if (!stream)
    throw Error(ErrorKind::kResource, "E303",
                fmt::format("cannot write '{}'; choose another run_dir", path.string()));
  return stream;
}

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

double bits_per_weight(const quant::Grid& grid, Index in_features) {
  if (grid.block)
    return 8.0 * static_cast<double>(ggml_row_bytes(*grid.block, in_features)) /
           static_cast<double>(in_features);
  // A scale of 16 (or 32) bits a group, and an offset beside it unless the middle code stands for
  // it.
  const double scale_bits = grid.precision == ScalePrecision::kF32 ? 32 : 16;
  const double offset_bits = grid.offset_kind == OffsetKind::kMinimum     ? scale_bits
                             : grid.offset_kind == OffsetKind::kZeroPoint ? grid.bits
                                                                          : 0;
  return grid.bits +
         (scale_bits + offset_bits) / static_cast<double>(grid.group_size_for(in_features));
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, Observer& next) : folder_(folder), next_(next) {
  if (folder_.empty()) return;
  std::filesystem::create_directories(folder_);
  modules_csv_ = open_log(folder_ / "modules.csv");
  log_jsonl_ = open_log(folder_ / "log.jsonl");
  modules_csv_
      << "block,module,method,bits,group_size,params,bpw,loss,rel_error,tokens,"
         "nonfinite_tokens,damp_percent,dead_columns,seconds,fallback_reason,upstream_shift"
      << std::endl;
}

void RunLog::phase_started(const std::string& title, Index steps) {
  phase_ = title;
  log("phase", fmt::format(R"("title":{},"steps":{})", quoted(title), steps));
  next_.phase_started(title, steps);
}

void RunLog::module_done(const ModuleReport& m) {
  const quant::RoundingReport& r = m.rounding;
  const Index params = m.out_features * m.in_features;
  const Index group_size = m.grid.group_size_for(m.in_features);
  const double bpw = bits_per_weight(m.grid, m.in_features);
  if (modules_csv_.is_open())
    modules_csv_ << fmt::format(
                        "{},{},{},{},{},{},{:.4f},{:.6g},{:.6g},{},{},{:g},{},{:.3f},{},{:.4g}\n",
                        m.block, m.module, r.method, m.grid.bits, group_size, params, bpw, r.loss,
                        r.relative_error, m.tokens, m.nonfinite_tokens, r.damp_percent,
                        r.dead_columns, m.seconds,
                        r.fallback_reason.empty() ? "" : quoted(r.fallback_reason),
                        m.upstream_shift)
                 << std::flush;
  log("module",
      fmt::format(R"("block":{},"module":{},"method":{},"rel_error":{:.6g},"seconds":{:.3f})",
                  m.block, quoted(m.module), quoted(r.method), r.relative_error, m.seconds));
  next_.module_done(m);
}

void RunLog::block_done(Index block, Index blocks, double seconds) {
  log("block", fmt::format(R"("block":{},"blocks":{},"seconds":{:.3f})", block, blocks, seconds));
  next_.block_done(block, blocks, seconds);
}

void RunLog::note(const std::string& line) {
  log("note", fmt::format(R"("text":{})", quoted(line)));
  next_.note(line);
}

void RunLog::warning(const std::string& line) {
  warnings_.push_back(line);
  log("warning", fmt::format(R"("text":{})", quoted(line)));
  next_.warning(line);
}

void RunLog::finish(const Report& report) {
  log("done", fmt::format(R"("warnings":{},"peak_bytes":{})", warnings_.size(), report.peak_bytes));
  if (folder_.empty()) return;
  io::write_file(folder_ / "calibration_manifest.json", manifest_json(report.calibration));
  io::write_file(folder_ / "metrics.json", report_json(report));
}

void RunLog::log(const std::string& event, const std::string& fields) {
  if (!log_jsonl_.is_open()) return;
  log_jsonl_ << fmt::format(R"({{"seconds":{:.3f},"event":"{}",{}}})", watch_.seconds(), event,
                            fields)
             << std::endl;
}

}  // namespace calque::pipeline
