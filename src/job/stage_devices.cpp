#include "calque/job/stage_devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "calque/core/error.h"
#include "calque/forward/block_runner.h"
#include "job/stage_needs.h"

namespace calque::job {
namespace {

constexpr const char* kCpu = "cpu";
constexpr const char* kFirstGpu = "cuda:0";

// The device that a job file asks for in one stage.
struct Wish {
  std::string stage;
  std::string device;
  bool of_all = false;  // set by runtime.device

  std::string key() const { return of_all ? "runtime.device" : "runtime.stages." + stage; }
};

Wish wish_for(const Job& job, const std::string& stage, const std::string& said) {
  Wish wish{stage, said.empty() ? job.runtime.device : said, said.empty()};
  if (wish.device == "cuda") wish.device = kFirstGpu;
  return wish;
}

std::optional<Operation> first_missing(const Machine& machine, const std::string& device,
                                       const std::vector<Operation>& needs) {
  for (const Operation operation : needs)
    if (!machine.provides(device, operation)) return operation;
  return std::nullopt;
}

bool has(const Machine& machine, const std::string& device) {
  return std::find(machine.devices.begin(), machine.devices.end(), device) != machine.devices.end();
}

[[noreturn]] void refuse_absent(const Wish& wish, const std::vector<std::string>& devices,
                                const std::string& why) {
  throw Error(
      ErrorKind::kConfig, "E128",
      fmt::format("{}: device '{}' for stage '{}' does not exist here{}. Devices: {}. Set {}: "
                  "{}",
                  wish.key(), wish.device, wish.stage, why.empty() ? "" : " (" + why + ")",
                  fmt::join(devices, ", "), wish.key(), devices.back()));
}

// Chooses the device of `stage`.
std::string choose(const Wish& wish, const std::vector<Operation>& needs, const Job& job,
                   const Machine& machine) {
  if (wish.device == "auto") {
    const bool able = !needs.empty() && has(machine, kFirstGpu) &&
                      !first_missing(machine, kFirstGpu, needs).has_value();
    return able ? kFirstGpu : kCpu;
  }
  if (!has(machine, wish.device)) refuse_absent(wish, machine.devices, machine.why_no_gpu);
  if (const auto missing = first_missing(machine, wish.device, needs))
    throw Error(ErrorKind::kConfig, "E127",
                fmt::format("{}: '{}' does not provide {}, which stage '{}' needs for method {}. "
                            "Set runtime.stages.{}: cpu",
                            wish.key(), wish.device, name_of(*missing), wish.stage,
                            job.quantization.method(), wish.stage));
  return wish.device;
}

std::vector<std::string> forward_devices(int gpus) {
  std::vector<std::string> devices = {kCpu};
  for (int i = 0; i < gpus; ++i) devices.push_back(fmt::format("cuda:{}", i));
  return devices;
}

// Asks LibTorch last, because that loads it.
std::string choose_forward(const Wish& wish, bool needed, const Machine& machine) {
  if (wish.device == kCpu || wish.device == "tensors") return wish.device;
  if (wish.of_all && !needed) return kCpu;
  if (wish.device == "auto") {
    const bool able = needed && machine.devices.size() > 1 && machine.forward_gpus() > 0;
    return able ? kFirstGpu : kCpu;
  }
  const std::vector<std::string> devices = forward_devices(machine.forward_gpus());
  if (std::find(devices.begin(), devices.end(), wish.device) == devices.end())
    refuse_absent({wish.stage, wish.device}, devices,
                  devices.size() > 1 ? "" : "LibTorch finds no GPU");
  return wish.device;
}

}  // namespace

Machine this_machine(int threads) {
  const auto opened = std::make_shared<std::map<std::string, Exec>>();
  const auto open = [opened, threads](const std::string& device) {
    const auto found = opened->find(device);
    return found != opened->end()
               ? found->second
               : opened->emplace(device, open_exec(device, threads)).first->second;
  };
  return {
      .devices = available_devices(),
      .why_no_gpu = why_no_accelerator(),
      .provides = [open](const std::string& device,
                         Operation operation) { return calque::provides(open(device), operation); },
      .forward_gpus = forward::runner_gpus,
      .open = open};
}

StageDevices choose_devices(const Job& job, const std::vector<formats::ExportPlan>& plans,
                            const Machine& machine) {
  const StageDevices& said = job.runtime.stages;
  const StageNeeds needs = stage_needs(job, plans);
  const auto chosen = [&](const std::string& stage, const std::string& device,
                          const std::vector<Operation>& operations) {
    return choose(wish_for(job, stage, device), operations, job, machine);
  };
  StageDevices devices;
  devices.statistics = chosen("statistics", said.statistics, needs.statistics);
  devices.transform = chosen("transform", said.transform, needs.transform);
  devices.quantize = chosen("quantize", said.quantize, needs.quantize);
  devices.pack = chosen("pack", said.pack, needs.pack);
  devices.forward = choose_forward(wish_for(job, "forward", said.forward), needs.forward, machine);
  return devices;
}

std::string shown(const StageDevices& devices) {
  std::string text;
  for (const record::NamedStageDevice& stage : record::kStageDevices)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", stage.name, devices.*stage.device);
  return text;
}

StageExecs open_devices(const StageDevices& devices, const Machine& machine) {
  return {.statistics = machine.open(devices.statistics),
          .transform = machine.open(devices.transform),
          .quantize = machine.open(devices.quantize),
          .pack = machine.open(devices.pack),
          .forward = devices.forward};
}

forward::ComputeDType forward_dtype(const std::string& name, const std::string& device) {
  const bool on_gpu = device.starts_with("cuda");
  return name == "auto" && on_gpu ? forward::ComputeDType::kBFloat16
                                  : forward::compute_dtype_from(name);
}

}  // namespace calque::job
