#include "calque/report/report.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/commands.h"

namespace calque::cli {

Command report_command(const CommandContext&) {
  const auto folder = std::make_shared<std::string>();
  const auto out = std::make_shared<std::string>();
  return {"report",
          "Write an HTML report of a run or a sweep, with its plots as SVG and CSV files.",
          {Option{"FOLDER", folder.get(), "Run folder or sweep folder."}.required().folder(),
           Option{"--out", out.get(), "Output folder (default: FOLDER/report)."}.folder()},
          "  calque report runs/demo\n  calque report runs/ablation --out site",
          [folder, out] { fmt::print("{}\n", report::write_report(*folder, *out).string()); }};
}

}  // namespace calque::cli
