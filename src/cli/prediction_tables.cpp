#include <fmt/format.h>

#include "cli/tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

// "1.04": measured over predicted.
std::string ratio_text(double measured, double predicted) {
  return predicted > 0 ? fmt::format("{:.2f}", measured / predicted) : "-";
}

void add_sizes(const record::Report& report, TextTable& table) {
  for (std::size_t i = 0; i < report.artifacts.size(); ++i) {
    if (i >= report.predicted.file_bytes.size()) return;
    const std::uint64_t predicted = report.predicted.file_bytes[i];
    const std::uint64_t measured = report.artifacts[i].file_bytes;
    table.add({printable(report.artifacts[i].plan.request.path.filename().string()) + ", bytes",
               fmt::format("{}", predicted), fmt::format("{}", measured),
               predicted == measured
                   ? "exact"
                   : ratio_text(static_cast<double>(measured), static_cast<double>(predicted))});
  }
}

}  // namespace

std::vector<std::pair<std::string, double>> stage_list(const record::StageSeconds& seconds) {
  std::vector<std::pair<std::string, double>> list;
  for (const record::NamedStage& stage : record::kStages)
    if (seconds.*stage.seconds > 0) list.emplace_back(stage.name, seconds.*stage.seconds);
  return list;
}

std::string predictions_text(const record::Report& report) {
  const record::Predicted& predicted = report.predicted;
  if (predicted.seconds_from.empty()) return "";
  TextTable table({{"", Align::kLeft}, {"predicted"}, {"measured"}, {"ratio"}});
  add_sizes(report, table);
  table.add({"peak memory", bytes_text(predicted.peak_bytes), bytes_text(report.peak_bytes),
             ratio_text(static_cast<double>(report.peak_bytes),
                        static_cast<double>(predicted.peak_bytes))});
  table.add({fmt::format("time ({})", predicted.seconds_from), duration_text(predicted.seconds),
             duration_text(report.seconds), ratio_text(report.seconds, predicted.seconds)});
  return table.text();
}

}  // namespace calque::cli
