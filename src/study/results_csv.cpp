#include "calque/study/results_csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "calque/formats/format.h"
#include "calque/io/csv.h"
#include "calque/study/state.h"

namespace calque::study {
namespace {

// One line of a table: values by column name, in the order they are put.
class Line {
 public:
  void put(const std::string& column, const std::string& value) {
    columns_.push_back(column);
    values_.push_back(value);
  }
  void put(const std::string& column, double value) { put(column, fmt::format("{:.6g}", value)); }
  void put_integer(const std::string& column, double value) {
    put(column, fmt::format("{:.0f}", value));
  }

  std::string header() const { return io::csv_line(columns_); }
  std::string text() const { return io::csv_line(values_); }

 private:
  std::vector<std::string> columns_;
  std::vector<std::string> values_;
};

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// Texts other than the main one, over all points.
std::vector<std::string> further_texts(const SweepPlan& plan) {
  std::vector<std::string> names;
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs) {
      if (run.refusal.any() || !run.job.evaluate) continue;
      const auto texts = run.job.evaluate->named_texts();
      for (std::size_t i = 1; i < texts.size(); ++i)
        if (std::find(names.begin(), names.end(), texts[i].name) == names.end())
          names.push_back(texts[i].name);
    }
  return names;
}

// Tasks over all points.
std::vector<std::string> tasks_of(const SweepPlan& plan) {
  std::vector<std::string> names;
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs) {
      if (run.refusal.any() || !run.job.evaluate) continue;
      for (const job::TaskSettings& task : run.job.evaluate->named_tasks())
        if (std::find(names.begin(), names.end(), task.name) == names.end())
          names.push_back(task.name);
    }
  return names;
}

const TaskResult* find_task(const ArtifactResult& artifact, const std::string& name) {
  for (const TaskResult& task : artifact.tasks)
    if (task.task == name) return &task;
  return nullptr;
}

const TextResult* find_text(const ArtifactResult& artifact, const std::string& name) {
  for (const TextResult& text : artifact.texts)
    if (text.text == name) return &text;
  return nullptr;
}

// One artifact of one point.
class RowWriter {
 public:
  RowWriter(const PlannedPoint& planned, const Fold& fold, std::size_t artifact)
      : planned_(planned), fold_(fold), artifact_(artifact) {}

  Line line(const std::vector<std::string>& further, const std::vector<std::string>& tasks) {
    put_identity();
    put_settings();
    put_sizes();
    put_main_text();
    put_costs();
    for (const std::string& name : further) put_further_text(name);
    for (const std::string& name : tasks) put_task(name);
    return std::move(line_);
  }

 private:
  const Run& run() const { return planned_.runs.front(); }
  bool measured() const { return fold_.complete() && artifact_ < fold_.first().artifacts.size(); }
  const ArtifactResult& artifact() const { return fold_.first().artifacts[artifact_]; }

  void put_identity() {
    const Failure* failure = fold_.failure();
    line_.put("point", std::to_string(planned_.point.number));
    line_.put("hash", run().hash);
    line_.put("status", failure ? "failed" : fold_.complete() ? "done" : "pending");
    line_.put("error", !failure                ? ""
                       : failure->code.empty() ? one_line(failure->message)
                                               : failure->code + ": " + one_line(failure->message));
    for (const config::Setting& setting : planned_.point.settings)
      line_.put(setting.path, setting.value);
  }

  // A GGUF type already states all settings.
  void put_settings() {
    const job::QuantizationSettings& settings = run().job.quantization;
    const auto& exports = run().job.exports;
    const bool known = artifact_ < exports.size();
    const bool gguf = known && format_of(exports[artifact_]).has_block_types;
    line_.put("method", known ? settings.method() : "");
    line_.put("format", known ? exports[artifact_].format : "");
    line_.put("type", artifact_ > 0 ? exports[artifact_].path.filename().string()
                      : gguf        ? exports[artifact_].type
                      : known       ? exports[artifact_].scheme
                                    : "");
    const bool grid = known && !gguf;
    line_.put("bits", grid ? std::to_string(settings.grid.bits) : "");
    line_.put("group_size", grid ? std::to_string(settings.grid.group_size) : "");
    line_.put("sym", grid ? (settings.grid.sym ? "true" : "false") : "");
  }

  void put_sizes() {
    const auto put = [&](const char* column, auto value) {
      if (measured())
        line_.put_integer(column, static_cast<double>(value()));
      else
        line_.put(column, "");
    };
    put("artifact_bytes", [&] { return artifact().file_bytes; });
    put("tensor_bytes", [&] { return artifact().tensor_bytes; });
    line_.put("bits_per_weight",
              measured() ? fmt::format("{:.6g}", artifact().bits_per_weight) : "");
    put("source_bytes", [&] { return fold_.first().source_bytes; });
  }

  void put_main_text() {
    const TextResult* main = measured() ? fold_.main_text(artifact_) : nullptr;
    line_.put("text", main ? main->text : "");
    line_.put("seqlen", main ? std::to_string(main->seqlen) : "");
    put_mean("ppl", &TextResult::ppl);
    put_mean("ppl_uncertainty", &TextResult::ppl_uncertainty);
    put_mean("ppl_original", &TextResult::ppl_original);
    put_mean("kl_mean", &TextResult::kl_mean);
    put_mean("kl_mean_uncertainty", &TextResult::kl_mean_uncertainty);
    const auto kl = [](const RunResult&, const ArtifactResult& a) {
      return a.texts.front().kl_mean;
    };
    line_.put("kl_mean_sd", main && fold_.done().size() > 1
                                ? fmt::format("{:.6g}", fold_.deviation(artifact_, kl))
                                : "");
    put_mean("kl_median", &TextResult::kl_median);
    put_mean("kl_p99", &TextResult::kl_p99);
    put_mean("top1_agreement", &TextResult::top1_agreement);
  }

  void put_mean(const char* column, double TextResult::*value) {
    if (measured() && fold_.main_text(artifact_))
      line_.put(column, fold_.mean(artifact_, [&](const RunResult&, const ArtifactResult& a) {
        return a.texts.front().*value;
      }));
    else
      line_.put(column, "");
  }

  void put_costs() {
    line_.put("replicates", std::to_string(fold_.done().size()));
    put_seconds("seconds", &RunResult::seconds);
    put_seconds("quantize_seconds", &RunResult::quantize_seconds);
    put_seconds("statistics_seconds", &RunResult::statistics_seconds);
    put_seconds("forward_seconds", &RunResult::forward_seconds);
    put_seconds("evaluate_seconds", &RunResult::evaluate_seconds);
    std::uint64_t peak = 0;
    std::vector<std::string> shared;
    for (const RunResult* run : fold_.done()) {
      peak = std::max(peak, run->peak_bytes);
      for (const auto& taken : run->shared)
        if (std::find(shared.begin(), shared.end(), taken.what) == shared.end())
          shared.push_back(taken.what);
    }
    line_.put("peak_bytes", peak > 0 ? std::to_string(peak) : "");
    line_.put("shared", fmt::format("{}", fmt::join(shared, "+")));
  }

  void put_seconds(const char* column, double RunResult::*value) {
    if (measured())
      line_.put(column, fold_.mean(artifact_, [&](const RunResult& run, const ArtifactResult&) {
        return run.*value;
      }));
    else
      line_.put(column, "");
  }

  void put_further_text(const std::string& name) {
    const auto put = [&](const char* column, double TextResult::*value) {
      const std::string title = fmt::format("{}[{}]", column, name);
      if (measured() && find_text(artifact(), name))
        line_.put(title, fold_.mean(artifact_, [&](const RunResult&, const ArtifactResult& a) {
          return find_text(a, name)->*value;
        }));
      else
        line_.put(title, "");
    };
    put("kl_mean", &TextResult::kl_mean);
    put("kl_mean_uncertainty", &TextResult::kl_mean_uncertainty);
    put("ppl", &TextResult::ppl);
  }

  // A p-value belongs to one set of answers, so there is none over replicates.
  void put_task(const std::string& name) {
    const TaskResult* first = measured() ? find_task(artifact(), name) : nullptr;
    line_.put(fmt::format("task[{}]", name), first ? first->metric : "");
    const auto put = [&](const char* column, double TaskResult::*value, bool wanted = true) {
      const std::string title = fmt::format("{}[{}]", column, name);
      if (first && wanted)
        line_.put(title, fold_.mean(artifact_, [&](const RunResult&, const ArtifactResult& a) {
          return find_task(a, name)->*value;
        }));
      else
        line_.put(title, "");
    };
    put("right", &TaskResult::value);
    put("right_uncertainty", &TaskResult::standard_error);
    put("right_original", &TaskResult::original);
    put("right_difference", &TaskResult::difference);
    put("right_difference_uncertainty", &TaskResult::difference_error);
    put("mcnemar_p", &TaskResult::p_value, fold_.done().size() == 1);
  }

  const PlannedPoint& planned_;
  const Fold& fold_;
  std::size_t artifact_;
  Line line_;
};

std::size_t artifact_count(const Fold& fold) {
  return fold.complete() ? fold.first().artifacts.size() : 1;
}

Line run_line(const PlannedPoint& planned, const Run& run, const RunResult* result) {
  Line line;
  line.put("point", std::to_string(planned.point.number));
  line.put("replicate", std::to_string(run.replicate));
  line.put("hash", run.hash);
  line.put("status", !result ? "pending" : result->done() ? "done" : "failed");
  for (const config::Settings* settings : {&planned.point.settings, &run.settings})
    for (const config::Setting& setting : *settings) line.put(setting.path, setting.value);
  const bool done = result && result->done();
  const auto put = [&](const char* column, double RunResult::*value) {
    line.put(column, done ? fmt::format("{:.6g}", result->*value) : "");
  };
  put("seconds", &RunResult::seconds);
  put("quantize_seconds", &RunResult::quantize_seconds);
  put("statistics_seconds", &RunResult::statistics_seconds);
  put("forward_seconds", &RunResult::forward_seconds);
  put("evaluate_seconds", &RunResult::evaluate_seconds);
  const bool evaluated =
      done && !result->artifacts.empty() && !result->artifacts.front().texts.empty();
  line.put("kl_mean",
           evaluated ? fmt::format("{:.6g}", result->artifacts[0].texts[0].kl_mean) : "");
  double saved = 0;
  if (result)
    for (const auto& taken : result->shared) saved += taken.seconds;
  line.put("saved_seconds", result ? fmt::format("{:.6g}", saved) : "");
  return line;
}

}  // namespace

std::string results_csv(const SweepPlan& plan, const Results& results) {
  const std::vector<std::string> further = further_texts(plan);
  const std::vector<std::string> tasks = tasks_of(plan);
  std::string csv;
  for (const PlannedPoint& planned : plan.points) {
    const Fold fold(planned, results);
    for (std::size_t a = 0; a < artifact_count(fold); ++a) {
      const Line line = RowWriter(planned, fold, a).line(further, tasks);
      if (csv.empty()) csv = line.header();
      csv += line.text();
    }
  }
  return csv;
}

std::string runs_csv(const SweepPlan& plan, const Results& results) {
  std::string csv;
  for (const PlannedPoint& planned : plan.points)
    for (const Run& run : planned.runs) {
      const auto found = results.find(run.hash);
      const Line line = run_line(planned, run, found == results.end() ? nullptr : &found->second);
      if (csv.empty()) csv = line.header();
      csv += line.text();
    }
  return csv;
}

}  // namespace calque::study
