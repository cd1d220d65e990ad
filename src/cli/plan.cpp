#include "cli/plan.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "cli/commands.h"

namespace calque::cli {
namespace {

struct PlanArguments {
  std::string job_file;
  std::vector<std::string> overrides;
  bool probe = false;
  bool modules = false;
  bool json = false;
};

void plan(const PlanArguments& arguments) {
  print_job_plan(config::load_job(arguments.job_file, arguments.overrides),
                 {.probe = arguments.probe, .every_module = arguments.modules}, arguments.json);
}

}  // namespace

void print_job_plan(const job::Job& job, const pipeline::PlanOptions& options, bool json) {
  const forecast::JobPlan planned = pipeline::make_job_plan(job, options);
  fmt::print("{}", json ? forecast::job_plan_json(planned) : job_plan_text(planned));
}

void add_plan(CLI::App& program) {
  CLI::App* command = program.add_subcommand(
      "plan", "What a job would write, and what it would take: files, memory, disk, time.");
  auto arguments = std::make_shared<PlanArguments>();
  command->add_option("job", arguments->job_file, "The job file (configs/README.md).")->required();
  command
      ->add_option("--set", arguments->overrides,
                   "KEY.PATH=VALUE: as for 'calque run'. May be repeated.")
      ->allow_extra_args(false);
  command->add_flag("--probe", arguments->probe,
                    "Predict the time from one block that is really run (takes a while).");
  command->add_flag("--modules", arguments->modules, "A row for every module.");
  command->add_flag("--json", arguments->json, "Print the plan as JSON.");
  command->footer(
      help_footer("  calque plan configs/demo.yaml\n"
                  "  calque plan job.yaml --probe --set quantization.bits=3"));
  command->callback([arguments] { plan(*arguments); });
}

}  // namespace calque::cli
