#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "calque/core/units.h"
#include "report/row_plots.h"
#include "report/sections.h"

namespace calque::report {
namespace {

std::string deviation(double measured, double predicted) {
  return predicted > 0 && measured > 0 ? fmt::format("{:+.1f} %", 100 * (measured / predicted - 1))
                                       : "";
}

BarPlot time_plot(const Run& run) {
  BarPlot plot{"Time by stage", "Seconds of each stage, measured and predicted.", {}};
  for (const StageTime& t : run.times) {
    if (t.measured < 0.005 && t.predicted < 0.005) continue;
    plot.rows.push_back(
        {t.stage, t.measured, t.predicted,
         duration_text(t.measured) +
             (t.predicted > 0 ? fmt::format(" (predicted {})", duration_text(t.predicted)) : "")});
  }
  return plot;
}

BarPlot memory_plot(const Run& run) {
  BarPlot plot{
      "Peak memory by stage", "Resident memory of each stage, measured and predicted.", {}};
  for (const StageMemory& m : run.memory)
    plot.rows.push_back(
        {m.stage, static_cast<double>(m.measured), static_cast<double>(m.predicted),
         (m.measured > 0 ? bytes_text(m.measured) : std::string("not measured")) +
             (m.predicted > 0 ? fmt::format(" (predicted {})", bytes_text(m.predicted)) : "")});
  return plot;
}

Csv time_data(const Run& run) {
  Csv csv{{"stage", "seconds", "predicted_seconds"}, {}};
  for (const StageTime& t : run.times)
    csv.rows.push_back(
        {t.stage, fmt::format("{:g}", t.measured), fmt::format("{:g}", t.predicted)});
  return csv;
}

Csv memory_data(const Run& run) {
  Csv csv{{"stage", "bytes", "predicted_bytes"}, {}};
  for (const StageMemory& m : run.memory)
    csv.rows.push_back({m.stage, std::to_string(m.measured), std::to_string(m.predicted)});
  return csv;
}

void add_row(HtmlTable& table, const std::string& what, const std::string& predicted,
             const std::string& measured, const std::string& difference) {
  table.rows.push_back({{escaped(what), predicted, measured, difference}, ""});
}

HtmlTable prediction_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"", false}, {"predicted"}, {"measured"}, {"difference"}};
  if (run.predicted_seconds > 0)
    add_row(
        table,
        "time" + (run.seconds_from.empty() ? "" : " (predicted from: " + run.seconds_from + ")"),
        duration_text(run.predicted_seconds), duration_text(run.seconds),
        deviation(run.seconds, run.predicted_seconds));
  if (run.predicted_peak_bytes > 0)
    add_row(table, "peak memory", bytes_text(run.predicted_peak_bytes), bytes_text(run.peak_bytes),
            deviation(static_cast<double>(run.peak_bytes),
                      static_cast<double>(run.predicted_peak_bytes)));
  for (const Artifact& a : run.artifacts)
    if (a.predicted_file_bytes > 0)
      add_row(table, a.name, fmt::format("{} B", a.predicted_file_bytes),
              fmt::format("{} B", a.file_bytes),
              a.file_bytes == a.predicted_file_bytes
                  ? "exact"
                  : deviation(static_cast<double>(a.file_bytes),
                              static_cast<double>(a.predicted_file_bytes)));
  return table;
}

}  // namespace

void add_costs(Page& page, const Run& run) {
  if (!run.finished) return;
  page.section("Time and memory");
  std::vector<Figure> figures;
  if (const BarPlot plot = time_plot(run); !plot.rows.empty())
    figures.push_back({"time", draw(plot), time_data(run)});
  if (const BarPlot plot = memory_plot(run); !plot.rows.empty())
    figures.push_back({"memory", draw(plot), memory_data(run)});
  if (!figures.empty()) page.figures(std::move(figures), "Outlines: predicted before the run.");
  if (const HtmlTable table = prediction_table(run); !table.rows.empty()) page.table(table);
}

}  // namespace calque::report
