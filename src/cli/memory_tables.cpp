#include <fmt/format.h>

#include "cli/tables.h"
#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using Align = TextTable::Align;

std::string activations_text(const forecast::MemoryPlan& plan) {
  if (plan.activation_file_bytes == 0) return "all activations in memory";
  return fmt::format("activations: up to {} in files, which need that much disk",
                     bytes_text(plan.activation_file_bytes));
}

}  // namespace

std::string memory_text(const forecast::MemoryPlan& plan) {
  if (plan.stages.empty()) return "";
  TextTable table({{"memory of stage", Align::kLeft},
                   {"peak"},
                   {"of it activations"},
                   {"most of the rest", Align::kLeft}});
  for (const forecast::MemoryPlan::Stage& stage : plan.stages)
    table.add({stage.stage, bytes_text(stage.peak_bytes()), bytes_text(stage.activation_ram_bytes),
               fmt::format("{} {}", bytes_text(stage.items.front().bytes),
                           printable(stage.items.front().what))});
  return fmt::format("{}Peak memory: {} ({})\n", table.text(), bytes_text(plan.peak_bytes),
                     activations_text(plan));
}

}  // namespace calque::cli
