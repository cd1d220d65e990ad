#pragma once

#include "calque/core/error.h"
#include "calque/resume/saved_run.h"

namespace calque::cli {

// Runs the program: parses the arguments, runs one command, and turns a failure into one message on
// stderr and an exit code. Results go to stdout, everything else to stderr. `saved` receives the
// saved state of a run, for code that ends the process.
int run_program(int argc, char** argv, resume::SavedRun& saved);

// 1 to 6, in the order of ErrorKind; see error.h and kExitCodes.
int exit_code(ErrorKind kind);
// Exit code of a sweep in which some runs failed.
inline constexpr int kSweepFailed = 7;

// For --help.
inline constexpr const char* kExitCodes =
    "Exit codes:\n"
    "  0  done\n"
    "  1  internal error\n"
    "  2  usage, job file, or a request that cannot be met\n"
    "  3  a model or data file is unreadable, damaged or unsupported\n"
    "  4  out of memory or disk\n"
    "  5  numerical failure\n"
    "  6  written, but a check of the result failed\n"
    "  7  some points of a sweep failed\n"
    "  130, 143  interrupted (SIGINT, SIGTERM); half-written files are removed, saved work can\n"
    "            be continued with calque resume";

}  // namespace calque::cli
