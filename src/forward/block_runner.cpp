#include "calque/forward/block_runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "calque/core/error.h"
#include "calque/core/instruction_set.h"
#include "calque/core/plugin.h"
#include "forward/cpu/cpu_runner.h"
#include "forward/torch/plugin.h"

namespace calque::forward {
namespace {

constexpr const char* kPluginFile = "libcalque_torch.so";
constexpr bool kBuiltWithTorch = CALQUE_WITH_TORCH;

struct TorchRunner {
  MakeTorchRunner make = nullptr;
  DescribeTorch describe = nullptr;
  CountTorchGpus count_gpus = nullptr;
  std::string failure;  // the reason if there is none
};

TorchRunner load_torch() {
  if (!kBuiltWithTorch) return {.failure = "calque was built without LibTorch (CALQUE_TORCH=OFF)"};
  const Plugin plugin = load_plugin(kPluginFile);
  TorchRunner runner;
  runner.make = reinterpret_cast<MakeTorchRunner>(plugin.symbol(kMakeTorchRunner));
  runner.describe = reinterpret_cast<DescribeTorch>(plugin.symbol(kDescribeTorch));
  runner.count_gpus = reinterpret_cast<CountTorchGpus>(plugin.symbol(kCountTorchGpus));
  const auto interface = reinterpret_cast<TorchInterface>(plugin.symbol(kTorchInterface));
  if (interface != nullptr && std::string_view(interface()) != CALQUE_RUNNER_INTERFACE)
    return {.failure = fmt::format("{} is of another build of calque than this program; build or "
                                   "install both together",
                                   kPluginFile)};
  if (interface != nullptr && runner.make != nullptr && runner.describe != nullptr &&
      runner.count_gpus != nullptr)
    return runner;
  const bool loaded = plugin.library != nullptr;
  return {.failure = loaded ? fmt::format("{} is not calque's block runner", kPluginFile)
                            : plugin.failure};
}

// Loaded once and never unloaded: LibTorch registers its operators in static constructors.
const TorchRunner& torch() {
  static const TorchRunner loaded = load_torch();
  return loaded;
}

}  // namespace

ComputeDType compute_dtype_from(const std::string& name) {
  if (name == "float32") return ComputeDType::kFloat32;
  if (name == "bfloat16") return ComputeDType::kBFloat16;
  if (name == "auto")
    return instruction_set() == InstructionSet::kAmx ? ComputeDType::kBFloat16
                                                     : ComputeDType::kFloat32;
  throw Error(ErrorKind::kConfig, "E166",
              fmt::format("unknown compute dtype '{}'; choose auto, float32 or bfloat16", name));
}

std::string_view name_of(ComputeDType dtype) {
  return dtype == ComputeDType::kBFloat16 ? "bfloat16" : "float32";
}

std::unique_ptr<BlockRunner> make_block_runner(const model::ModelConfig& config,
                                               const RunnerOptions& options) {
  if (options.device == "cpu") return make_cpu_runner(config, options);
  if (torch().make == nullptr && torch().failure.find("failed to map") != std::string::npos)
    throw Error(ErrorKind::kResource, "E304",
                fmt::format("out of memory: cannot load LibTorch: {}", torch().failure));
  if (torch().make == nullptr)
    throw Error(ErrorKind::kConfig, "E165",
                fmt::format("cannot run a model on '{}': {}. Set runtime.stages.forward: cpu, or "
                            "build with CALQUE_TORCH=ON and keep {} beside the program or in "
                            "../lib/calque.",
                            options.device, torch().failure, kPluginFile));
  return std::unique_ptr<BlockRunner>(torch().make(config, options));
}

std::string block_runner_description() {
  return fmt::format("cpu: oneDNN; GPUs: {}", torch().describe == nullptr
                                                  ? "none: " + torch().failure
                                                  : std::string(torch().describe()));
}

int runner_gpus() { return torch().count_gpus == nullptr ? 0 : torch().count_gpus(); }

}  // namespace calque::forward
