#pragma once

#include <vector>

#include "calque/resume/saved_run.h"
#include "cli/command.h"

namespace calque::cli {

struct CommandContext {
  resume::SavedRun& saved;  // receives the saved state of a run
};

// Every command, in the order of --help. To add one, write a file that defines NAME_command and add
// a line here.
#define CALQUE_COMMANDS(COMMAND) \
  COMMAND(quantize)              \
  COMMAND(init)                  \
  COMMAND(run)                   \
  COMMAND(resume)                \
  COMMAND(validate)              \
  COMMAND(plan)                  \
  COMMAND(eval)                  \
  COMMAND(inspect)               \
  COMMAND(verify)                \
  COMMAND(dequantize)            \
  COMMAND(imatrix)               \
  COMMAND(tokenize)              \
  COMMAND(sweep)                 \
  COMMAND(schema)                \
  COMMAND(doctor)                \
  COMMAND(explain)               \
  COMMAND(report)                \
  COMMAND(compare)               \
  COMMAND(recommend)             \
  COMMAND(completion)

#define CALQUE_DECLARE(name) Command name##_command(const CommandContext& context);
CALQUE_COMMANDS(CALQUE_DECLARE)
#undef CALQUE_DECLARE

std::vector<Command> all_commands(const CommandContext& context);

}  // namespace calque::cli
