#include "cli/plan.h"

#include <fmt/format.h>

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
  const forecast::Forecast planned = pipeline::make_job_plan(job, options);
  fmt::print("{}", json ? forecast::forecast_json(planned) : job_plan_text(planned));
}

Command plan_command(const CommandContext&) {
  const auto a = std::make_shared<PlanArguments>();
  return {
      "plan",
      "Show the files a job would write, and the memory, disk space and time it needs.",
      {job_file_option(a->job_file),
       set_option(a->overrides, "KEY.PATH=VALUE, as for 'calque run'. May be repeated."),
       {"--probe", &a->probe, "Run one block to predict the time more accurately (takes a while)."},
       {"--modules", &a->modules, "List every module on its own row."},
       json_option(a->json, "Print the plan as JSON.")},
      "  calque plan configs/demo.yaml\n"
      "  calque plan job.yaml --probe --set quantization.bits=3",
      [a] { plan(*a); }};
}

}  // namespace calque::cli
