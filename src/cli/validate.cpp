#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "calque/config/job_file.h"
#include "calque/forecast/forecast.h"
#include "calque/forecast/memory_plan.h"
#include "calque/formats/format.h"
#include "calque/io/json.h"
#include "calque/pipeline/open_job.h"
#include "cli/commands.h"
#include "cli/tables.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct ValidateArguments {
  std::string job_file;
  std::vector<std::string> overrides;
  bool json = false;
  bool resolved = false;
  bool tensors = false;
};

std::string plans_json(const std::vector<formats::ExportPlan>& plans,
                       const forecast::MemoryPlan& memory) {
  auto exports = io::Json::array();
  for (const formats::ExportPlan& plan : plans) {
    auto tensors = io::Json::array();
    for (const formats::TensorPlan& tensor : plan.tensors)
      tensors.push_back({{"name", tensor.tensor.name},
                         {"shape", tensor.tensor.shape},
                         {"stored_as", tensor.stored_as},
                         {"bytes", tensor.bytes}});
    exports.push_back({{"path", plan.request.path.string()},
                       {"format", plan.request.format},
                       {"tensor_bytes", plan.tensor_bytes},
                       {"bits_per_weight", plan.bits_per_weight},
                       {"tensors", tensors}});
  }
  return io::Json{{"exports", exports},
                  {"memory", io::parse_json(forecast::memory_plan_json(memory))}}
             .dump(2) +
         "\n";
}

// The tensor types of every GGUF export; with `tensors`, every tensor of every export.
std::string details(const std::vector<formats::ExportPlan>& plans, bool tensors) {
  std::string text;
  for (const formats::ExportPlan& plan : plans) {
    const std::string name = printable(plan.request.path.filename().string());
    if (tensors) text += fmt::format("\n{}\n{}", name, tensors_table(plan));
    if (format_of(plan.request).has_block_types)
      text += fmt::format("\n{}\n{}", name, types_table(plan));
  }
  return text;
}

std::string remarks_text(const std::vector<std::string>& remarks) {
  std::string text;
  for (const std::string& remark : remarks) text += "note: " + printable(remark) + "\n";
  return text;
}

void validate(const ValidateArguments& arguments) {
  const job::Job job = config::load_job(arguments.job_file, arguments.overrides);
  const pipeline::OpenedJob opened = pipeline::open_job(job);
  if (arguments.resolved)
    fmt::print("{}", config::resolved_yaml(job));
  else if (arguments.json)
    fmt::print("{}", plans_json(opened.plans, opened.memory));
  else
    fmt::print("{}{}\n{}{}ok\n", plan_table(opened.plans), details(opened.plans, arguments.tensors),
               memory_text(opened.memory), remarks_text(opened.remarks()));
}

}  // namespace

Command validate_command(const CommandContext&) {
  const auto a = std::make_shared<ValidateArguments>();
  return {
      "validate",
      "Check a job without computing anything, and show what it would write.",
      {job_file_option(a->job_file),
       set_option(a->overrides, "KEY.PATH=VALUE, as for 'calque run'. May be repeated."),
       json_option(a->json, "Print the plan of every tensor as JSON."),
       Option{"--resolved", &a->resolved, "Print the job file with every default filled in."}
           .without("--json"),
       Option{"--tensors", &a->tensors, "List the stored type of every tensor."}.without("--json")},
      "  calque validate configs/demo.yaml\n"
      "  calque validate job.yaml --set quantization.group_size=64",
      [a] { validate(*a); }};
}

}  // namespace calque::cli
