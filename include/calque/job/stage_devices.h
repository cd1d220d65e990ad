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

// The devices of this machine and build. A value, so that tests can describe other machines.
struct Machine {
  std::vector<std::string> devices;  // names that open_exec accepts, "cpu" first
  std::string why_no_gpu;            // reason, if "cpu" is the only device
  std::function<bool(const std::string& device, Operation operation)> provides;
  std::function<int()> forward_gpus;  // GPUs the block runner can use, from cuda:0 on
  std::function<Exec(const std::string& device)> open;  // opens each device once
};

// `threads` as in open_exec.
Machine this_machine(int threads = 0);

// Chooses every stage's device, "cpu" or "cuda:N", from job.runtime. "auto" is the first GPU that
// provides every operation the stage needs, else "cpu". The forward pass may also be "tensors"
// (RunnerOptions::device). Error(kConfig): "E127" for a device that lacks an operation the stage
// needs, "E128" for a device that does not exist; both name the key to change.
StageDevices choose_devices(const Job& job, const std::vector<formats::ExportPlan>& plans,
                            const Machine& machine);

// "forward cpu, statistics cuda:0, ...", for the log.
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

// Resolves "auto", "float32" or "bfloat16" for the device of the forward pass: every GPU on which
// LibTorch's operators are fast multiplies bfloat16 natively.
forward::ComputeDType forward_dtype(const std::string& name, const std::string& device);

}  // namespace calque::job
