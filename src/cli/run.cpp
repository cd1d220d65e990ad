#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/record/report_json.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/tables.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct RunArguments {
  std::string job_file;
  std::vector<std::string> overrides;
  std::string progress = "auto";
  std::string resume = "auto";
  std::string run_dir;  // of `calque resume`
  bool quiet = false;
  bool json = false;
  bool dry_run = false;
  resume::SavedRun* saved = nullptr;
};

void run_job(const job::Job& job, resume::Resume resume, const RunArguments& arguments) {
  const std::string mode = arguments.quiet ? "none" : arguments.progress;
  record::Report report;
  {
    Progress progress(progress_mode(mode), std::cerr, terminal_width());
    report = pipeline::quantize_model(job, progress,
                                      {.resume = resume,
                                       .settings = config::settings_of(job),
                                       .resolved_yaml = config::resolved_yaml(job),
                                       .saved = arguments.saved});
  }
  fmt::print("{}",
             arguments.json ? record::report_json(report) : report_text(report, job.run_dir));
}

void run(const RunArguments& arguments) {
  const job::Job job = config::load_job(arguments.job_file, arguments.overrides);
  if (arguments.dry_run) return print_job_plan(job, {}, arguments.json);
  run_job(job, arguments.resume == "never" ? resume::Resume::kNever : resume::Resume::kAuto,
          arguments);
}

[[noreturn]] void refuse_to_resume(const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E305", "cannot resume: " + reason);
}

// The folder may have another name than when the run began.
void resume(const RunArguments& arguments) {
  const std::filesystem::path folder =
      std::filesystem::absolute(arguments.run_dir).lexically_normal();
  const std::filesystem::path job_file = folder / "job.resolved.yaml";
  if (!std::filesystem::exists(job_file))
    refuse_to_resume(fmt::format("'{}' is not the folder of a run (it has no job.resolved.yaml)",
                                 arguments.run_dir));
  if (std::filesystem::exists(folder / "metrics.json") && !resume::can_resume(folder))
    refuse_to_resume(fmt::format("the run in '{}' is finished; to do it again: calque run {}",
                                 arguments.run_dir, shell_quoted(job_file)));
  job::Job job = config::load_job(job_file);
  job.run_dir = folder;
  run_job(job, resume::Resume::kAuto, arguments);
}

void add_output_options(CLI::App& command, RunArguments& arguments) {
  command
      .add_option("--progress", arguments.progress,
                  "auto, tty (last line redrawn), plain (a line a block), none.")
      ->check(CLI::IsMember({"auto", "tty", "plain", "none"}))
      ->capture_default_str();
  command.add_flag("--quiet,-q", arguments.quiet, "No progress, notes or warnings on stderr.");
  command.add_flag("--json", arguments.json, "Print the report as JSON.");
}

}  // namespace

void add_run(CLI::App& program, resume::SavedRun& saved) {
  CLI::App* command =
      program.add_subcommand("run", "Quantize a model, write every export, evaluate them.");
  auto arguments = std::make_shared<RunArguments>();
  arguments->saved = &saved;
  command->add_option("job", arguments->job_file, "The job file (configs/README.md).")->required();
  command
      ->add_option("--set", arguments->overrides,
                   "KEY.PATH=VALUE: replaces a value of the job file, such as "
                   "quantization.bits=3 or export.0.type=Q5_0. May be repeated.")
      ->allow_extra_args(false);
  command
      ->add_option("--resume", arguments->resume,
                   "auto: go on where an interrupted run in run_dir stopped; never: start anew.")
      ->check(CLI::IsMember({"auto", "never"}))
      ->capture_default_str();
  add_output_options(*command, *arguments);
  command->add_flag("--dry-run", arguments->dry_run,
                    "Only print what 'calque plan' says; write nothing.");
  command->footer(
      help_footer("  calque run configs/demo.yaml\n"
                  "  calque run job.yaml --set quantization.bits=3 --set name=three"));
  command->callback([arguments] { run(*arguments); });
}

void add_resume(CLI::App& program, resume::SavedRun& saved) {
  CLI::App* command =
      program.add_subcommand("resume", "Go on with a run that was interrupted; same result.");
  auto arguments = std::make_shared<RunArguments>();
  arguments->saved = &saved;
  command->add_option("run_dir", arguments->run_dir, "The folder of the run.")->required();
  add_output_options(*command, *arguments);
  command->footer(help_footer("  calque resume runs/demo"));
  command->callback([arguments] { resume(*arguments); });
}

}  // namespace calque::cli
