#include "cli/sweep_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/io/json.h"
#include "calque/study/state.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using study::ArtifactResult;
using study::Fold;
using study::PlannedPoint;
using study::RunResult;
using study::TextResult;
using Align = TextTable::Align;
using io::Json;

void add_swept_columns(const study::SweepPlan& plan, std::vector<TextTable::Column>& columns) {
  for (const config::Setting& setting : plan.points.front().point.settings)
    columns.push_back({config::short_name_of(setting.path)});
}

void add_values(const PlannedPoint& planned, std::vector<std::string>& cells) {
  for (const config::Setting& setting : planned.point.settings)
    cells.push_back(printable(setting.value));
}

bool has_replicates(const study::SweepPlan& plan) { return plan.points.front().runs.size() > 1; }

// The measured cells of one point, from its first artifact.
class Cells {
 public:
  Cells(const Fold& fold, bool replicates) : fold_(fold), replicates_(replicates) {}

  std::vector<std::string> texts() const {
    std::vector<std::string> cells = {size(), bits_per_weight()};
    add_text(cells);
    cells.push_back(fold_.complete() ? fmt::format("{:.1f}", seconds()) : "-");
    cells.push_back(shared());
    return cells;
  }

 private:
  template <typename Get>
  double mean(const Get& get) const {
    return fold_.mean(0, get);
  }
  double seconds() const {
    return mean([](const RunResult& run, const ArtifactResult&) { return run.seconds; });
  }
  std::string size() const {
    if (!fold_.complete()) return "-";
    const double bytes = mean([](const RunResult&, const ArtifactResult& a) {
      return static_cast<double>(a.file_bytes);
    });
    return fmt::format("{:.2f}", bytes / (1 << 20));
  }
  std::string bits_per_weight() const {
    if (!fold_.complete()) return "-";
    return fmt::format("{:.3f}", fold_.first().artifacts.front().bits_per_weight);
  }
  void add_text(std::vector<std::string>& cells) const {
    const bool known = fold_.complete() && fold_.main_text(0);
    const auto value = [&](double TextResult::*member) {
      return mean([&](const RunResult&, const ArtifactResult& a) { return a.texts[0].*member; });
    };
    cells.push_back(known ? fmt::format("{:.4f}", value(&TextResult::ppl)) : "-");
    cells.push_back(known ? fmt::format("{:.5f}", value(&TextResult::kl_mean)) : "-");
    cells.push_back(known ? fmt::format("{:.5f}", spread(value(&TextResult::kl_mean_uncertainty)))
                          : "-");
    cells.push_back(known ? fmt::format("{:.4f}", value(&TextResult::kl_p99)) : "-");
    cells.push_back(known ? fmt::format("{:.2f}", 100 * value(&TextResult::top1_agreement)) : "-");
  }
  double spread(double uncertainty) const {
    if (!replicates_) return uncertainty;
    return fold_.deviation(
        0, [](const RunResult&, const ArtifactResult& a) { return a.texts[0].kl_mean; });
  }
  std::string shared() const {
    std::vector<std::string> names;
    for (const RunResult* run : fold_.done())
      for (const auto& taken : run->shared)
        if (std::find(names.begin(), names.end(), taken.what) == names.end())
          names.push_back(taken.what);
    return names.empty() ? "-" : fmt::format("{}", fmt::join(names, "+"));
  }

  const Fold& fold_;
  bool replicates_;
};

std::string status_text(const Fold& fold) {
  if (const study::Failure* failure = fold.failure())
    return failure->code.empty() ? "failed" : "failed " + failure->code;
  return fold.complete() ? "done" : "pending";
}

Json result_json(const Fold& fold) {
  const RunResult& first = fold.first();
  const ArtifactResult& a = first.artifacts.front();
  const auto mean = [&](double RunResult::*member) {
    return fold.mean(0, [&](const RunResult& r, const ArtifactResult&) { return r.*member; });
  };
  Json json = {{"artifact_bytes", a.file_bytes},
               {"bits_per_weight", a.bits_per_weight},
               {"seconds", mean(&RunResult::seconds)}};
  if (!fold.main_text(0)) return json;
  const auto text = [&](double TextResult::*member) {
    return fold.mean(
        0, [&](const RunResult&, const ArtifactResult& of) { return of.texts[0].*member; });
  };
  json["ppl"] = text(&TextResult::ppl);
  json["kl_mean"] = text(&TextResult::kl_mean);
  json["kl_mean_uncertainty"] = text(&TextResult::kl_mean_uncertainty);
  json["top1_agreement"] = text(&TextResult::top1_agreement);
  return json;
}

Json progress_json(const study::Progress& progress) {
  Json json = {{"done", progress.done},
               {"failed", progress.failed},
               {"pending", progress.pending},
               {"spent_seconds", progress.spent_seconds},
               {"saved_seconds", progress.saved_seconds}};
  json["remaining_seconds"] =
      progress.remaining_seconds ? Json(*progress.remaining_seconds) : Json(nullptr);
  return json;
}

}  // namespace

std::string settings_text(const config::Settings& settings) {
  std::vector<std::string> parts;
  for (const config::Setting& s : settings)
    parts.push_back(fmt::format("{} {}", config::short_name_of(s.path), printable(s.value)));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string points_table(const study::SweepPlan& plan, const study::Results& results,
                         const study::Selection& selection) {
  std::vector<TextTable::Column> columns = {{"point"}};
  add_swept_columns(plan, columns);
  for (const char* title : {"runs", "size MiB", "bits/weight"}) columns.push_back({title});
  columns.push_back({"state", Align::kLeft});
  TextTable table(columns);
  const std::vector<study::PointState> states = study::point_states(plan, results);
  for (std::size_t i = 0; i < plan.points.size(); ++i) {
    const PlannedPoint& planned = plan.points[i];
    if (!selection.has(planned.point.number)) continue;
    const study::Run& run = planned.runs.front();
    std::vector<std::string> cells = {std::to_string(planned.point.number)};
    add_values(planned, cells);
    cells.push_back(std::to_string(planned.runs.size()));
    const bool valid = !run.refusal.any();
    const double mebibytes = static_cast<double>(run.tensor_bytes) / (1 << 20);
    cells.push_back(valid ? fmt::format("{:.2f}", mebibytes) : "-");
    cells.push_back(valid ? fmt::format("{:.3f}", run.bits_per_weight) : "-");
    cells.push_back(states[i].who.empty()
                        ? states[i].state
                        : fmt::format("{} by {}", states[i].state, printable(states[i].who)));
    if (!valid) cells.back() += fmt::format(" (cannot work: {})", run.refusal.code);
    table.add(std::move(cells));
  }
  return table.text();
}

std::string sweep_table(const study::SweepPlan& plan, const study::Results& results,
                        const study::Selection& selection) {
  std::vector<TextTable::Column> columns = {{""}, {"point"}};
  add_swept_columns(plan, columns);
  for (const char* title : {"size MiB", "bits/weight", "ppl", "KL mean",
                            has_replicates(plan) ? "sd" : "+/-", "KL p99", "top-1 %", "seconds"})
    columns.push_back({title});
  columns.push_back({"shared", Align::kLeft});
  columns.push_back({"status", Align::kLeft});
  TextTable table(columns);
  const std::set<int> front = study::pareto_points(plan, results);
  for (const PlannedPoint& planned : plan.points) {
    if (!selection.has(planned.point.number)) continue;
    const Fold fold(planned, results);
    std::vector<std::string> cells = {front.count(planned.point.number) > 0 ? "*" : "",
                                      std::to_string(planned.point.number)};
    add_values(planned, cells);
    for (std::string& cell : Cells(fold, has_replicates(plan)).texts())
      cells.push_back(std::move(cell));
    cells.push_back(status_text(fold));
    table.add(std::move(cells));
  }
  return table.text();
}

std::string sweep_json(const study::SweepPlan& plan, const study::Results& results,
                       const study::Selection& selection) {
  const std::set<int> front = study::pareto_points(plan, results);
  const std::vector<study::PointState> states = study::point_states(plan, results);
  Json points = Json::array();
  std::set<int> selected;
  for (std::size_t i = 0; i < plan.points.size(); ++i) {
    const PlannedPoint& planned = plan.points[i];
    if (!selection.has(planned.point.number)) continue;
    selected.insert(planned.point.number);
    const study::Run& run = planned.runs.front();
    const Fold fold(planned, results);
    Json settings = Json::object();
    for (const config::Setting& s : planned.point.settings) settings[s.path] = s.value;
    Json point = {{"point", planned.point.number},
                  {"hash", run.hash},
                  {"settings", settings},
                  {"runs", planned.runs.size()},
                  {"predicted_tensor_bytes", run.tensor_bytes},
                  {"predicted_bits_per_weight", run.bits_per_weight},
                  {"state", states[i].state},
                  {"pareto", front.count(planned.point.number) > 0}};
    const study::Failure* failure = fold.failure() ? fold.failure() : &run.refusal;
    if (failure->any()) point["error"] = {{"code", failure->code}, {"message", failure->message}};
    if (fold.complete()) point["result"] = result_json(fold);
    points.push_back(std::move(point));
  }
  const Json json = {{"name", plan.sweep.name},
                     {"points", points},
                     {"progress", progress_json(study::progress_of(plan, results, selected))}};
  return json.dump(2) + "\n";
}

}  // namespace calque::cli
