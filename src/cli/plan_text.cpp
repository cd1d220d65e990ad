#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "calque/formats/format.h"
#include "cli/plan.h"
#include "cli/tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

constexpr std::size_t kNameColumns = 44;

// Splits a pattern into pieces that fit the column, after commas and dots.
std::vector<std::string> wrapped(std::string names) {
  std::vector<std::string> lines;
  while (names.size() > kNameColumns) {
    std::size_t cut = names.find_last_of(",. ", kNameColumns - 1);
    cut = cut == std::string::npos || cut < 8 ? kNameColumns : cut + 1;
    lines.push_back(names.substr(0, cut));
    names = "  " + names.substr(cut);
  }
  lines.push_back(names);
  return lines;
}

std::string stored_text(const forecast::PlannedModules& m) {
  if (m.bits == 0 || !m.block.empty() || m.group_size == 0) return m.stored_as;
  const bool folder = m.stored_as.find(" bit") != std::string::npos;
  return folder ? m.stored_as + (m.sym ? " sym" : " asym") : m.stored_as;
}

std::string method_text(const forecast::PlannedModules& m) {
  if (m.method.empty()) return "-";
  if (m.order == "desc_act") return m.method + ", desc_act";
  return m.order == "static act order" ? m.method + ", act order" : m.method;
}

std::string modules_table(const forecast::PlannedExport& planned) {
  TextTable table({{"modules", Align::kLeft},
                   {"n"},
                   {"stored as", Align::kLeft},
                   {"rounded by", Align::kLeft},
                   {"size"}});
  for (const forecast::PlannedModules& m : planned.modules) {
    std::vector<std::string> lines = wrapped(printable(m.names));
    table.add({lines.front(), fmt::format("{}", m.count), stored_text(m), method_text(m),
               decimal_bytes_text(m.bytes)});
    for (std::size_t i = 1; i < lines.size(); ++i) table.add({lines[i], "", "", "", ""});
  }
  return table.text();
}

std::string count_text(std::size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string files_text(const forecast::PlannedExport& planned) {
  std::size_t weights = 0;
  for (const formats::PlannedFile& file : planned.files) weights += file.weights ? 1 : 0;
  std::string text =
      fmt::format("Weights: {} bytes ({}) in {}, {:.3f} bits/weight\n",
                  with_commas(planned.weights_bytes()), decimal_bytes_text(planned.weights_bytes()),
                  count_text(weights, "file"), planned.plan.bits_per_weight);
  if (!format_of(planned.plan.request).is_folder) return text;
  return text +
         fmt::format("Other files: {} in {}; publishing adds README.md, calque/ and SHA256SUMS\n",
                     decimal_bytes_text(planned.other_bytes()),
                     count_text(planned.files.size() - weights, "file"));
}

std::string export_text(const forecast::PlannedExport& planned) {
  return fmt::format("{} ({})\n{}{}", printable(planned.plan.request.path.string()),
                     format_text(planned.plan), modules_table(planned), files_text(planned));
}

std::string job_text(const forecast::Forecast& plan) {
  std::string text = printable(plan.job_name);
  if (plan.calibration_rows > 0)
    text += fmt::format(": {} rows of {} tokens, forward pass in {}", plan.calibration_rows,
                        plan.seqlen, plan.forward_dtype);
  return text + "\n";
}

std::string disk_text(const forecast::DiskUse& disk) {
  std::string text = fmt::format("Disk: {}: {} of output", decimal_bytes_text(disk.total()),
                                 decimal_bytes_text(disk.output_bytes));
  if (disk.activation_bytes > 0)
    text += fmt::format(", {} of activations", decimal_bytes_text(disk.activation_bytes));
  if (disk.state_bytes > 0)
    text += fmt::format(", {} for resuming after an interruption",
                        decimal_bytes_text(disk.state_bytes));
  return text + "\n";
}

std::string origin_text(const forecast::Forecast& plan) {
  if (plan.time.from == "probe") return "from running one block";
  std::string rates = fmt::format("{:.0f} GFLOP/s in float32", plan.rates.float32 / 1e9);
  if (plan.rates.bfloat16 != plan.rates.float32)
    rates += fmt::format(", {:.0f} in bfloat16", plan.rates.bfloat16 / 1e9);
  return fmt::format("estimate from shapes and {}; --probe runs a block", rates);
}

std::string time_text(const forecast::Forecast& plan) {
  std::vector<std::string> stages;
  for (const auto& [name, seconds] : stage_list(plan.time.stages))
    if (seconds >= 0.05) stages.push_back(fmt::format("{} {}", name, duration_text(seconds)));
  return fmt::format("Time: {} ({})\n  {}\n", duration_text(plan.time.seconds), origin_text(plan),
                     fmt::join(stages, ", "));
}

std::string warnings_text(const std::vector<std::string>& warnings) {
  std::string text = fmt::format("Warnings: {}\n", warnings.size());
  for (const std::string& warning : warnings) text += "  " + printable(warning) + "\n";
  return text;
}

}  // namespace

std::string job_plan_text(const forecast::Forecast& plan) {
  std::string text = job_text(plan);
  for (const forecast::PlannedExport& planned : plan.exports) text += "\n" + export_text(planned);
  return fmt::format("{}\n{}{}{}{}", text, memory_text(plan.memory), disk_text(plan.disk),
                     time_text(plan), warnings_text(plan.warnings));
}

}  // namespace calque::cli
