#include <dlfcn.h>
#include <fmt/format.h>

#include "calque/core/plugin.h"
#include "kernels/cuda/backend.h"

namespace calque {
namespace {

struct Loaded {
  const CudaBackend* backend = nullptr;
  std::string failure;
};

// Asked for first: without a driver there is no need to load cuBLAS (half a gigabyte).
bool has_driver() {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver != nullptr) dlclose(driver);
  return driver != nullptr;
}

Loaded load() {
  if (!has_driver()) return {.failure = "no NVIDIA driver (libcuda.so.1 does not load)"};
  const Plugin plugin = load_plugin(cuda::kPluginFile);
  if (plugin.library == nullptr) return {.failure = plugin.failure};
  const auto get = reinterpret_cast<cuda::GetBackend>(plugin.symbol(cuda::kGetBackend));
  if (get == nullptr)
    return {.failure = fmt::format("{} is not calque's CUDA backend", cuda::kPluginFile)};
  return {.backend = get()};
}

// Loaded once and never unloaded: CUDA keeps threads and exit handlers.
const Loaded& loaded() {
  static const Loaded result = load();
  return result;
}

}  // namespace

const CudaBackend* cuda_backend() { return loaded().backend; }

std::string why_no_cuda_backend() { return loaded().failure; }

}  // namespace calque
