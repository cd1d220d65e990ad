#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "calque/config/job_file.h"
#include "cli/commands.h"

namespace calque::cli {

void add_schema(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("schema", "List every key of the job file (Markdown tables).");
  command->footer(help_footer("  calque schema"));
  command->callback([] { fmt::print("{}", config::key_reference()); });
}

}  // namespace calque::cli
