#include <fmt/format.h>

#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/core/error.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/record/report_json.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/run_job.h"
#include "cli/tables.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct RunArguments {
  std::string job_file;
  std::vector<std::string> overrides;
  std::string progress = "auto";
  std::string resume = "auto";
  std::string run_dir;  // `calque resume` only
  bool quiet = false;
  bool json = false;
  bool dry_run = false;
  resume::SavedRun* saved = nullptr;
};

RunOptions options_of(const RunArguments& arguments) {
  return {.job_file = arguments.job_file,
          .progress = arguments.quiet ? "none" : arguments.progress,
          .json = arguments.json,
          .resume = arguments.resume == "never" ? resume::Resume::kNever : resume::Resume::kAuto,
          .saved = arguments.saved};
}

void run(const RunArguments& arguments) {
  const job::Job job = config::load_job(arguments.job_file, arguments.overrides);
  if (arguments.dry_run) return print_job_plan(job, {}, arguments.json);
  run_job(job, options_of(arguments));
}

[[noreturn]] void refuse_to_resume(const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E305", "cannot resume: " + reason);
}

// Uses the given folder: it may have been renamed since the run began.
void resume(const RunArguments& arguments) {
  const std::filesystem::path folder =
      std::filesystem::absolute(arguments.run_dir).lexically_normal();
  const std::filesystem::path job_file = folder / "job.resolved.yaml";
  if (!std::filesystem::exists(job_file))
    refuse_to_resume(fmt::format("'{}' is not the folder of a run (it has no job.resolved.yaml)",
                                 arguments.run_dir));
  if (std::filesystem::exists(folder / "metrics.json") && !resume::can_resume(folder))
    refuse_to_resume(fmt::format("the run in '{}' is finished; to repeat it: calque run {}",
                                 arguments.run_dir, shell_quoted(job_file)));
  job::Job job = config::load_job(job_file);
  job.run_dir = folder;
  RunArguments again = arguments;
  again.job_file = job_file.string();
  run_job(job, options_of(again));
}

std::vector<Option> output_options(RunArguments& a) {
  return {progress_option(a.progress,
                          "auto, tty (a bar in the last line), plain (one line per block), none."),
          {"--quiet,-q", &a.quiet, "No progress, notes or warnings on stderr."},
          json_option(a.json, "Print the report as JSON.")};
}

}  // namespace

void run_job(const job::Job& job, const RunOptions& options) {
  record::Report report;
  {
    Progress progress(progress_mode(options.progress), std::cerr, terminal_width());
    report = pipeline::quantize_model(job, progress,
                                      {.resume = options.resume,
                                       .settings = config::settings_of(job),
                                       .resolved_yaml = config::resolved_yaml(job),
                                       .saved = options.saved});
  }
  if (options.json) return fmt::print("{}", record::report_json(report));
  fmt::print("{}{}", report_text(report, job.run_dir), next_text(report, job, options.job_file));
}

Command run_command(const CommandContext& context) {
  const auto a = std::make_shared<RunArguments>();
  a->saved = &context.saved;
  std::vector<Option> options = {
      job_file_option(a->job_file),
      set_option(a->overrides,
                 "KEY.PATH=VALUE: overrides a value of the job file, such as quantization.bits=3 "
                 "or export.0.type=Q5_0. May be repeated."),
      Option{"--resume", &a->resume,
             "auto: resume an interrupted run in run_dir; never: start from the beginning."}
          .among({"auto", "never"})};
  for (Option& option : output_options(*a)) options.push_back(std::move(option));
  options.push_back(
      {"--dry-run", &a->dry_run, "Print the output of 'calque plan' and write nothing."});
  return {"run", "Quantize a model, write every export, and evaluate the results.",
          std::move(options),
          "  calque run configs/demo.yaml\n"
          "  calque run job.yaml --set quantization.bits=3 --set name=three",
          [a] { run(*a); }};
}

Command resume_command(const CommandContext& context) {
  const auto a = std::make_shared<RunArguments>();
  a->saved = &context.saved;
  std::vector<Option> options = {
      Option{"run_dir", &a->run_dir, "The folder of the run."}.required().folder()};
  for (Option& option : output_options(*a)) options.push_back(std::move(option));
  return {"resume",
          "Resume an interrupted run; the result is the same as without the interruption.",
          std::move(options), "  calque resume runs/demo", [a] { resume(*a); }};
}

}  // namespace calque::cli
