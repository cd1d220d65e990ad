#pragma once

#include <functional>
#include <string>
#include <vector>

#include "calque/core/exec.h"
#include "calque/formats/plan.h"
#include "calque/forward/block_runner.h"
#include "calque/job/job.h"
#include "calque/kernels/operations.h"

namespace calque::job {

// What this machine and build have; a value, so that tests can speak of other machines.
struct Machine {
  std::vector<std::string> devices;  // that open_exec takes, "cpu" first
  std::string why_no_gpu;            // where that is all
  std::function<bool(const std::string& device, Operation operation)> provides;
  std::function<int()> forward_gpus;                    // that the block runner can use, cuda:0 on
  std::function<Exec(const std::string& device)> open;  // each once
};

// `threads`: as open_exec.
Machine this_machine(int threads = 0);

// Every stage's device by name, "cpu" or "cuda:N", for what job.runtime says: "auto" is the first
// GPU where there is one that provides every operation the stage needs, else "cpu". The forward
// pass may also be "tensors" (RunnerOptions::device). Error(kConfig): "E127" for a device that
// lacks an operation that the stage needs, "E128" for one that is not there; both name the key that
// mends it.
StageDevices choose_devices(const Job& job, const std::vector<formats::ExportPlan>& plans,
                            const Machine& machine);

// "forward cpu, statistics cuda:0, ...": for the log.
std::string shown(const StageDevices& devices);

// The chosen devices, opened; equal ones are shared.
struct StageExecs {
  Exec statistics;
  Exec transform;
  Exec quantize;
  Exec pack;
  std::string forward;  // RunnerOptions::device
};

StageExecs open_devices(const StageDevices& devices, const Machine& machine);

// "auto", "float32" or "bfloat16" on the device of the forward pass: every GPU that LibTorch's
// operators are fast on multiplies bfloat16 natively.
forward::ComputeDType forward_dtype(const std::string& name, const std::string& device);

}  // namespace calque::job
