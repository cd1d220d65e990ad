#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/Version.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/instruction_set.h"
#include "calque/core/parallel.h"
#include "calque/forward/block_runner.h"
#include "calque/io/json.h"
#include "calque/kernels/operations.h"
#include "cli/commands.h"
#include "cli/system_facts.h"
#include "cli/units.h"
#include "cli/version.h"

namespace calque::cli {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

std::string header_libraries() {
  return fmt::format("fmt {}.{}.{}, nlohmann-json {}, CLI11 {}", FMT_VERSION / 10000,
                     FMT_VERSION / 100 % 100, FMT_VERSION % 100, io::json_library_version(),
                     CLI11_VERSION);
}

// "all operations", "all operations except refine_blocks".
std::string operations_of(const std::string& device) {
  const Exec exec = open_exec(device);
  std::vector<std::string_view> missing;
  for (const Operation operation : all_operations())
    if (!provides(exec, operation)) missing.push_back(name_of(operation));
  return missing.empty() ? "all operations"
                         : fmt::format("all operations except {}", fmt::join(missing, ", "));
}

std::string accelerator_text(const DeviceFacts& gpu) {
  return fmt::format("{}, {}, {}, {} free; {}", printable(gpu.model), gpu.detail,
                     bytes_text(gpu.memory_bytes), bytes_text(gpu.free_bytes),
                     operations_of(gpu.name));
}

Facts devices() {
  Facts all = {{"devices", fmt::format("{}", fmt::join(available_devices(), ", "))},
               {"cpu", operations_of("cpu")}};
  const std::vector<DeviceFacts> gpus = accelerators();
  if (gpus.empty()) all.emplace_back("accelerators", "none: " + why_no_accelerator());
  for (const DeviceFacts& gpu : gpus) all.emplace_back(gpu.name, accelerator_text(gpu));
  return all;
}

std::string instruction_set_text() {
  std::vector<std::string_view> runnable;
  for (const InstructionSet set : runnable_instruction_sets()) runnable.push_back(name_of(set));
  return fmt::format("{} (CALQUE_ISA may name: {})", name_of(instruction_set()),
                     fmt::join(runnable, ", "));
}

std::string runner_text() {
  const int gpus = forward::runner_gpus();
  return forward::block_runner_description() +
         (gpus > 0 ? fmt::format(", can run on {} GPU{}", gpus, gpus == 1 ? "" : "s") : "");
}

Facts facts() {
  // Called first, because looking for the runner may load libraries that are listed after it.
  const std::string runner = runner_text();
  Facts all = {{"calque", CALQUE_VERSION},
               {"commit", *kCommit == '\0' ? "not known: built without git" : kCommit},
               {"compiler", __VERSION__},
               {"block runner", runner},
               {"libraries", fmt::format("{}", fmt::join(loaded_libraries(), ", "))},
               {"header libraries", header_libraries()},
               {"processor", printable(processor_name())},
               {"instruction sets", fmt::format("{}", fmt::join(instruction_sets(), " "))},
               {"used of them", instruction_set_text()},
               {"threads", fmt::format("{}", available_threads())},
               {"memory", fmt::format("{}, {} available", bytes_text(memory_bytes()),
                                      bytes_text(available_memory_bytes()))}};
  for (auto& fact : devices()) all.push_back(std::move(fact));
  return all;
}

void doctor(bool json) {
  const Facts all = facts();
  if (json) {
    io::Json object;
    for (const auto& [name, value] : all) object[name] = value;
    fmt::print("{}\n", object.dump(2));
    return;
  }
  for (const auto& [name, value] : all) fmt::print("{:<17} {}\n", name, value);
}

}  // namespace

Command doctor_command(const CommandContext&) {
  const auto json = std::make_shared<bool>(false);
  return {"doctor",
          "Show what this build and this machine can do, for bug reports.",
          {json_option(*json, "Print JSON.")},
          "  calque doctor",
          [json] { doctor(*json); }};
}

}  // namespace calque::cli
