#include "calque/report/report.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/commands.h"

namespace calque::cli {

void add_report(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "report", "One HTML page about a run or a sweep, with its plots as SVG and CSV files.");
  auto folder = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  command->add_option("FOLDER", *folder, "A run folder or a sweep folder")->required();
  command->add_option("--out", *out, "Where to write (default: FOLDER/report)");
  command->footer(
      help_footer("  calque report runs/demo\n  calque report runs/ablation --out site"));
  command->callback(
      [folder, out] { fmt::print("{}\n", report::write_report(*folder, *out).string()); });
}

}  // namespace calque::cli
