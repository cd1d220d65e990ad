#include <fmt/format.h>

#include "calque/config/job_file.h"
#include "cli/commands.h"

namespace calque::cli {

Command schema_command(const CommandContext&) {
  return {"schema", "List every key of the job file (Markdown tables).", {}, "  calque schema", [] {
            fmt::print("{}", config::key_reference());
          }};
}

}  // namespace calque::cli
