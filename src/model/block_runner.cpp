#include "calque/model/block_runner.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "calque/core/error.h"
#include "model/torch/plugin.h"

namespace calque::model {
namespace {

constexpr const char* kPluginFile = "libcalque_torch.so";
constexpr bool kBuiltWithTorch = CALQUE_WITH_TORCH;

struct Plugin {
  MakeTorchRunner make_runner = nullptr;
  DescribeTorch describe = nullptr;
  std::string failure;  // why there is none
};

// The loader's own search (the program's RUNPATH) first, then beside the program, then where it is
// installed.
std::vector<std::string> plugin_candidates() {
  std::vector<std::string> candidates{kPluginFile};
  std::error_code ignored;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  if (ignored) return candidates;
  const std::filesystem::path folder = program.parent_path();
  candidates.push_back((folder / kPluginFile).string());
  candidates.push_back((folder / ".." / "lib" / "calque" / kPluginFile).string());
  return candidates;
}

// A plug-in that is there but broken explains more than the ones that are not there.
void note_failure(std::string& failure, const std::string& candidate) {
  const char* const reason = dlerror();
  const bool exists = std::filesystem::exists(candidate);
  if (failure.empty() || exists) failure = reason == nullptr ? candidate : reason;
}

Plugin load_plugin() {
  Plugin plugin;
  if (!kBuiltWithTorch) {
    plugin.failure = "calque was built without LibTorch (CALQUE_TORCH=OFF)";
    return plugin;
  }
  for (const std::string& candidate : plugin_candidates()) {
    void* const library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      note_failure(plugin.failure, candidate);
      continue;
    }
    plugin.make_runner = reinterpret_cast<MakeTorchRunner>(dlsym(library, kMakeTorchRunner));
    plugin.describe = reinterpret_cast<DescribeTorch>(dlsym(library, kDescribeTorch));
    if (plugin.make_runner != nullptr && plugin.describe != nullptr) return plugin;
    plugin.failure = fmt::format("{} is not calque's block runner", candidate);
    return {nullptr, nullptr, plugin.failure};
  }
  return plugin;
}

// Loaded once and never unloaded: LibTorch registers its operators in static constructors.
const Plugin& plugin() {
  static const Plugin loaded = load_plugin();
  return loaded;
}

// Linux names the feature where processor, hypervisor and kernel all allow it.
bool has_bfloat16_tiles() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("flags")) return (line + " ").find(" amx_bf16 ") != std::string::npos;
  return false;
}

}  // namespace

ComputeDType compute_dtype_from(const std::string& name) {
  if (name == "float32") return ComputeDType::kFloat32;
  if (name == "bfloat16") return ComputeDType::kBFloat16;
  if (name == "auto")
    return has_bfloat16_tiles() ? ComputeDType::kBFloat16 : ComputeDType::kFloat32;
  throw Error(ErrorKind::kConfig, "E166",
              fmt::format("unknown compute dtype '{}'; choose auto, float32 or bfloat16", name));
}

std::string_view name_of(ComputeDType dtype) {
  return dtype == ComputeDType::kBFloat16 ? "bfloat16" : "float32";
}

std::unique_ptr<BlockRunner> make_block_runner(const ModelConfig& config,
                                               const RunnerOptions& options) {
  if (plugin().make_runner == nullptr)
    throw Error(ErrorKind::kConfig, "E165",
                fmt::format("cannot run a model: {}. Commands that only convert or inspect files "
                            "work without it; for the others build with CALQUE_TORCH=ON and keep "
                            "{} beside the program or in ../lib/calque.",
                            plugin().failure, kPluginFile));
  return std::unique_ptr<BlockRunner>(plugin().make_runner(config, options));
}

std::string block_runner_description() {
  return plugin().describe == nullptr ? "none: " + plugin().failure : plugin().describe();
}

}  // namespace calque::model
