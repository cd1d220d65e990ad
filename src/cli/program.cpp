#include "cli/program.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "calque/core/error_table.h"
#include "cli/candidates.h"
#include "cli/commands.h"
#include "cli/last_resort.h"
#include "cli/manual.h"
#include "cli/sweep_failure.h"
#include "cli/units.h"
#include "cli/version.h"

namespace calque::cli {
namespace {

constexpr const char* kExamples =
    "  calque quantize tests/models/demo Q4_K_M\n"
    "  calque validate configs/demo.yaml\n"
    "  calque run configs/demo.yaml\n"
    "  calque eval out/demo-Q4_0.gguf --reference tests/models/demo --text heldout.txt\n"
    "  calque inspect out/demo-GPTQ-Int4\n"
    "  calque verify out/demo-GPTQ-Int4\n"
    "  calque COMMAND --help";

// The end of --help: examples, one per line, and the exit codes.
std::string footer(const std::string& examples) {
  return fmt::format("Examples:\n{}\n\n{}", examples, kExitCodes);
}

template <typename T>
constexpr bool kIsList = false;
template <typename T>
constexpr bool kIsList<std::vector<T>> = true;

template <typename T>
CLI::Option* added(CLI::App& app, const Option& option, T* target) {
  if constexpr (std::is_same_v<T, bool>) return app.add_flag(option.names, *target, option.help);
  CLI::Option* result = app.add_option(option.names, *target, option.help);
  // A list option takes one value at a time, so that positional arguments after it stay positional.
  if (kIsList<T> && option.names.front() == '-') result->allow_extra_args(false);
  return result;
}

void check_bounds(CLI::Option& parsed, const std::pair<std::int64_t, std::int64_t>& bounds) {
  if (bounds.second == kAny)
    parsed.check(CLI::NonNegativeNumber);
  else
    parsed.check(CLI::Range(static_cast<int>(bounds.first), static_cast<int>(bounds.second)));
}

CLI::Option* add_option(CLI::App& app, const Option& option) {
  CLI::Option* parsed =
      std::visit([&](auto* target) { return added(app, option, target); }, option.target);
  if (!option.choices.empty()) parsed->check(CLI::IsMember(option.choices));
  if (option.bounds) check_bounds(*parsed, *option.bounds);
  if (option.is_positive) parsed->check(CLI::PositiveNumber);
  const bool list = std::holds_alternative<std::vector<std::int64_t>*>(option.target);
  if ((!option.choices.empty() || option.bounds) && !list) parsed->capture_default_str();
  if (option.is_required) parsed->required();
  if (!option.placeholder.empty()) parsed->type_name(option.placeholder);
  return parsed;
}

void add_command(CLI::App& program, const Command& command) {
  CLI::App* app = program.add_subcommand(command.name, command.summary);
  CLI::Option_group* alternatives = nullptr;
  for (const Option& option : command.options) {
    if (option.is_alternative && alternatives == nullptr) {
      alternatives = app->add_option_group("input", "What is read (one of these)");
      alternatives->require_option(1);
    }
    CLI::Option* parsed = add_option(option.is_alternative ? *alternatives : *app, option);
    if (!option.excluded.empty()) parsed->excludes(app->get_option(option.excluded));
  }
  app->footer(footer(command.examples));
  app->callback(command.run);
}

void add_commands(CLI::App& program, const CommandContext& context) {
  program.set_version_flag("--version", version_text());
  program.require_subcommand(1);
  program.footer(footer(kExamples));
  for (const Command& command : all_commands(context)) add_command(program, command);
}

// Requests of shells (`calque completion`) and of the build (the manual), which --help does not
// list. False: the arguments are none.
bool answer_hidden_request(const std::vector<std::string>& arguments,
                           const CommandContext& context) {
  if (arguments.empty() || !arguments.front().starts_with("__")) return false;
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (arguments.front() == "__complete")
    fmt::print("{}", candidate_lines(candidates(all_commands(context), rest)));
  else if (arguments.front() == "__man")
    fmt::print("{}", program_manual(all_commands(context), kCommitDay));
  else if (arguments.front() == "__man-job")
    fmt::print("{}", job_file_manual(kCommitDay));
  else
    return false;
  return true;
}

// True for messages on a job file: each of their lines already has a place and a code.
bool carries_its_codes(const std::string& message) {
  return message.find(": error[") != std::string::npos;
}

// The codes in "error[E101]: ...", without duplicates.
std::vector<std::string> codes_in(const std::string& message) {
  constexpr std::string_view kBefore = "error[";
  std::vector<std::string> codes;
  for (auto at = message.find(kBefore); at != std::string::npos;
       at = message.find(kBefore, at + 1)) {
    const std::string code = message.substr(at + kBefore.size(), 4);
    if (std::ranges::find(codes, code) == codes.end()) codes.push_back(code);
  }
  return codes;
}

// Usage errors are left out: their hint is --help.
void print_explanations_of(const std::vector<std::string>& codes) {
  if (!codes.empty() && codes.front() != "E001" && find_error(codes.front()) != nullptr)
    fmt::print(stderr, "(calque explain {})\n", fmt::join(codes, " "));
}

void print_error(const std::string& code, const std::string& message) {
  if (carries_its_codes(message)) {
    fmt::print(stderr, "{}\n", message);
    return print_explanations_of(codes_in(message));
  }
  if (code.empty()) return fmt::print(stderr, "error: {}\n", message);
  fmt::print(stderr, "error[{}]: {}\n", code, message);
  print_explanations_of({code});
}

// --help and --version arrive here too: CLI11 reports them as a success.
int report_usage(const CLI::App& program, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return program.exit(error);
  const auto chosen = program.get_subcommands();
  print_error("E001", error.what());
  fmt::print(stderr, "See: calque {}--help\n",
             chosen.empty() ? "" : chosen.front()->get_name() + " ");
  return exit_code(ErrorKind::kConfig);
}

// CLI11 alone would only say that a command is missing.
void check_command(const CLI::App& program, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : program.get_subcommands({})) {
    if (command->get_name() == argv[1]) return;
    names.push_back(command->get_name());
  }
  throw Error(ErrorKind::kConfig, "E001",
              fmt::format("there is no command '{}'; commands: {}", printable(argv[1]),
                          fmt::join(names, ", ")));
}

void print_out_of_memory(const std::string& message) { print_error("E304", message + kLessMemory); }

// True for a failure to start a thread, which also means lack of memory.
bool is_lack_of_memory(const std::error_code& code) {
  return code == std::errc::not_enough_memory || code == std::errc::resource_unavailable_try_again;
}

int parse_and_run(int argc, char** argv, resume::SavedRun& saved) {
  CLI::App program(
      "Quantizes language models: GGUF files, and GPTQ, AWQ and compressed-tensors folders.",
      "calque");
  if (argc > 1 && answer_hidden_request({argv + 1, argv + argc}, {saved})) return 0;
  add_commands(program, {saved});
  check_command(program, argc, argv);
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(program, error);
  }
  return 0;
}

}  // namespace

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInternal:
      return 1;
    case ErrorKind::kConfig:
      return 2;
    case ErrorKind::kInput:
      return 3;
    case ErrorKind::kResource:
      return 4;
    case ErrorKind::kNumerical:
      return 5;
    case ErrorKind::kVerification:
      return 6;
  }
  return 1;
}

std::vector<Command> all_commands(const CommandContext& context) {
  std::vector<Command> commands;
#define CALQUE_ADD(name) commands.push_back(name##_command(context));
  CALQUE_COMMANDS(CALQUE_ADD)
#undef CALQUE_ADD
  return commands;
}

Option job_file_option(std::string& file) {
  return Option{"job", &file, "The job file (configs/README.md)."}.required().path();
}

Option set_option(std::vector<std::string>& overrides, const std::string& help) {
  return Option{"--set", &overrides, help}.called("KEY.PATH=VALUE").setting();
}

Option threads_option(int& threads) {
  return Option{"--threads", &threads, "Number of threads; 0: all that the process may use."}.from(
      0, 4096);
}

Option progress_option(std::string& mode, const std::string& help) {
  return Option{"--progress", &mode, help}.among({"auto", "tty", "plain", "none"});
}

Option json_option(bool& json, const std::string& help) { return {"--json", &json, help}; }

int run_program(int argc, char** argv, resume::SavedRun& saved) {
  // Heaps keep what a product of oneDNN needs beside its operands (3 to 4 MiB in a Gram matrix), so
  // that it does not come as new pages for each; our own large arrays are not in heaps
  // (core/memory.h). By default glibc serves requests up to 32 MiB from them and grows with the
  // number of layers.
  ::mallopt(M_MMAP_THRESHOLD, 8 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 8 << 20);
  // Turns a limit on file sizes into an error like a full disk, instead of ending the process.
  std::signal(SIGXFSZ, SIG_IGN);
  tell_out_of_memory_without_unwinding();
  try {
    const int code = parse_and_run(argc, argv, saved);
    if (std::fflush(stdout) == 0) return code;
    print_error("", "cannot write to standard output");
    return exit_code(ErrorKind::kResource);
  } catch (const SweepFailure& failure) {
    print_error("E195", failure.what());
    return kSweepFailed;
  } catch (const Error& error) {
    if (error.code() == "E304")
      print_out_of_memory(error.what());
    else
      print_error(error.code(), error.what());
    return exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    print_out_of_memory("out of memory");
    return exit_code(ErrorKind::kResource);
  } catch (const std::system_error& error) {  // files and streams, including standard output
    if (is_lack_of_memory(error.code()))
      print_out_of_memory(std::string("out of memory: ") + error.what());
    else
      print_error("", error.what());
    return exit_code(ErrorKind::kResource);
  } catch (const std::exception& error) {
    print_error("", fmt::format("internal: {}. Please report this with the command", error.what()));
    return exit_code(ErrorKind::kInternal);
  }
}

}  // namespace calque::cli
