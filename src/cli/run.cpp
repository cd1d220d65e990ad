#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/io/file.h"
#include "calque/pipeline/publish.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/pipeline/report_json.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/tables.h"

namespace calque::cli {
namespace {

struct RunArguments {
  std::string job_file;
  std::vector<std::string> overrides;
  std::string progress = "auto";
  bool quiet = false;
  bool json = false;
  bool dry_run = false;
};

void run(const RunArguments& arguments) {
  const pipeline::Job job = config::load_job(arguments.job_file, arguments.overrides);
  if (arguments.dry_run) return print_job_plan(job, {}, arguments.json);
  io::write_file(job.run_dir / "job.resolved.yaml", config::resolved_yaml(job));
  const std::string mode = arguments.quiet ? "none" : arguments.progress;
  pipeline::Report report;
  {
    Progress progress(progress_mode(mode), std::cerr, terminal_width());
    report = pipeline::quantize_model(job, progress);
  }
  for (std::size_t i = 0; i < report.artifacts.size(); ++i)
    pipeline::publish_folder(report, i, job, config::resolved_yaml(job));
  fmt::print("{}",
             arguments.json ? pipeline::report_json(report) : report_text(report, job.run_dir));
}

}  // namespace

void add_run(CLI::App& program) {
  CLI::App* command =
      program.add_subcommand("run", "Quantize a model, write every export, evaluate them.");
  auto arguments = std::make_shared<RunArguments>();
  command->add_option("job", arguments->job_file, "The job file (configs/README.md).")->required();
  command
      ->add_option("--set", arguments->overrides,
                   "KEY.PATH=VALUE: replaces a value of the job file, such as "
                   "quantization.bits=3 or export.0.type=Q5_0. May be repeated.")
      ->allow_extra_args(false);
  command
      ->add_option("--progress", arguments->progress,
                   "auto, tty (last line redrawn), plain (a line a block), none.")
      ->check(CLI::IsMember({"auto", "tty", "plain", "none"}))
      ->capture_default_str();
  command->add_flag("--quiet,-q", arguments->quiet, "No progress, notes or warnings on stderr.");
  command->add_flag("--json", arguments->json, "Print the report as JSON.");
  command->add_flag("--dry-run", arguments->dry_run,
                    "Only print what 'calque plan' says; write nothing.");
  command->footer(
      help_footer("  calque run configs/demo.yaml\n"
                  "  calque run job.yaml --set quantization.bits=3 --set name=three"));
  command->callback([arguments] { run(*arguments); });
}

}  // namespace calque::cli
