#include "calque/report/compare.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "calque/io/json.h"
#include "cli/commands.h"
#include "cli/point_text.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

std::vector<std::string> row_of(const report::ComparedModel& model,
                                const report::Comparison& comparison,
                                const std::vector<std::string>& tasks) {
  const report::Point& p = model.point;
  std::vector<std::string> row = {model.best ? "*" : "", printable(p.label),
                                  printable(p.run),      printable(p.base.name),
                                  bytes_text(p.bytes),   fmt::format("{:.3f}", p.bits_per_weight)};
  for (std::string& cell : quality_cells(p)) row.push_back(std::move(cell));
  if (!comparison.kl_compares && p.main() != nullptr && p.main()->has_kl)
    row[6] = "(" + row[6] + ")";
  for (const std::string& task : tasks)
    for (std::string& cell : task_cells(p, task)) row.push_back(std::move(cell));
  return row;
}

std::vector<std::string> tasks_in(const report::Comparison& comparison) {
  std::vector<report::Point> points;
  for (const report::ComparedModel& model : comparison.models) points.push_back(model.point);
  return report::task_names(points);
}

std::string table_of(const report::Comparison& comparison) {
  using Align = TextTable::Align;
  std::vector<TextTable::Column> columns = {{"", Align::kLeft},
                                            {"model", Align::kLeft},
                                            {"run", Align::kLeft},
                                            {"original", Align::kLeft},
                                            {"size"},
                                            {"bits/weight"},
                                            {"KL mean"},
                                            {"+/-"},
                                            {"top-1 %"},
                                            {"ppl"},
                                            {"+/-"}};
  const std::vector<std::string> tasks = tasks_in(comparison);
  for (const std::string& task : tasks) {
    columns.push_back({task + " %"});
    columns.push_back({"+/-"});
  }
  TextTable table(columns);
  std::size_t group = 0;
  for (const report::ComparedModel& model : comparison.models) {
    if (model.group != group) table.add(std::vector<std::string>(columns.size()));
    group = model.group;
    table.add(row_of(model, comparison, tasks));
  }
  return table.text();
}

std::string legend_of(const report::Comparison& comparison) {
  const char* marked = comparison.kl_compares           ? "lowest KL divergence"
                       : comparison.perplexity_compares ? "lowest perplexity"
                                                        : nullptr;
  std::string text = "\nSmallest first; models between blank lines differ by at most 10 % in size.";
  if (marked != nullptr) text += fmt::format(" *: {} of its group.", marked);
  if (!comparison.kl_compares)
    text += " (KL) is not comparable between different originals or tokens.";
  return text + "\n";
}

void print_json(const report::Comparison& comparison) {
  io::Json models = io::Json::array();
  for (const report::ComparedModel& model : comparison.models) {
    models.push_back(json_of(model.point));
    models.back()["group"] = model.group;
    models.back()["best"] = model.best;
  }
  const io::Json json = {{"models", models},
                         {"kl_compares", comparison.kl_compares},
                         {"perplexity_compares", comparison.perplexity_compares},
                         {"warnings", comparison.warnings}};
  fmt::print("{}\n", json.dump(2));
}

void compare(const std::vector<std::string>& folders, bool as_json) {
  const report::Comparison comparison = report::compare(points_in(folders));
  if (as_json) return print_json(comparison);
  fmt::print("{}{}", table_of(comparison), legend_of(comparison));
  std::fflush(stdout);
  for (const std::string& warning : comparison.warnings)
    fmt::print(stderr, "warning: {}\n", printable(warning));
}

}  // namespace

Command compare_command(const CommandContext&) {
  const auto folders = std::make_shared<std::vector<std::string>>();
  const auto as_json = std::make_shared<bool>(false);
  return {"compare",
          "Compare the models of several runs, sweeps or artifact folders, by size.",
          {Option{"FOLDER", folders.get(), "Run folders, sweep folders or artifact folders."}
               .required()
               .folder(),
           {"--json", as_json.get(), "Print the comparison as JSON."}},
          "  calque compare runs/small-8bit runs/large-3bit",
          [folders, as_json] { compare(*folders, *as_json); }};
}

}  // namespace calque::cli
