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
  for (const record::NamedStage& stage : record::kStages) {
    const double measured = run.stages.*stage.seconds;
    const double predicted = run.predicted.stages.*stage.seconds;
    if (measured < 0.005 && predicted < 0.005) continue;
    plot.rows.push_back(
        {std::string(stage.name), measured, predicted,
         duration_text(measured) +
             (predicted > 0 ? fmt::format(" (predicted {})", duration_text(predicted)) : "")});
  }
  return plot;
}

BarPlot memory_plot(const Run& run) {
  BarPlot plot{
      "Peak memory by stage", "Resident memory of each stage, measured and predicted.", {}};
  for (const record::StagePeak& m : run.stage_peaks)
    plot.rows.push_back(
        {m.stage, static_cast<double>(m.measured_bytes), static_cast<double>(m.predicted_bytes),
         (m.measured_bytes > 0 ? bytes_text(m.measured_bytes) : std::string("not measured")) +
             (m.predicted_bytes > 0 ? fmt::format(" (predicted {})", bytes_text(m.predicted_bytes))
                                    : "")});
  return plot;
}

io::Csv time_data(const Run& run) {
  io::Csv csv{{"stage", "seconds", "predicted_seconds"}, {}};
  for (const record::NamedStage& stage : record::kStages)
    csv.rows.push_back({std::string(stage.name), fmt::format("{:g}", run.stages.*stage.seconds),
                        fmt::format("{:g}", run.predicted.stages.*stage.seconds)});
  return csv;
}

io::Csv memory_data(const Run& run) {
  io::Csv csv{{"stage", "bytes", "predicted_bytes"}, {}};
  for (const record::StagePeak& m : run.stage_peaks)
    csv.rows.push_back(
        {m.stage, std::to_string(m.measured_bytes), std::to_string(m.predicted_bytes)});
  return csv;
}

void add_row(HtmlTable& table, const std::string& what, const std::string& predicted,
             const std::string& measured, const std::string& difference) {
  table.rows.push_back({{escaped(what), predicted, measured, difference}, ""});
}

HtmlTable prediction_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"", false}, {"predicted"}, {"measured"}, {"difference"}};
  const record::Predicted& predicted = run.predicted;
  if (predicted.seconds > 0)
    add_row(table,
            "time" + (predicted.seconds_from.empty()
                          ? ""
                          : " (predicted from: " + predicted.seconds_from + ")"),
            duration_text(predicted.seconds), duration_text(run.seconds),
            deviation(run.seconds, predicted.seconds));
  if (predicted.peak_bytes > 0)
    add_row(
        table, "peak memory", bytes_text(predicted.peak_bytes), bytes_text(run.peak_bytes),
        deviation(static_cast<double>(run.peak_bytes), static_cast<double>(predicted.peak_bytes)));
  for (std::size_t i = 0; i < run.artifacts.size(); ++i) {
    const std::uint64_t bytes = run.artifacts[i].file_bytes, expected = predicted.file_bytes[i];
    if (expected > 0)
      add_row(
          table, run.artifacts[i].name(), fmt::format("{} B", expected), fmt::format("{} B", bytes),
          bytes == expected ? "exact"
                            : deviation(static_cast<double>(bytes), static_cast<double>(expected)));
  }
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
