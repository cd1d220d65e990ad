#include "calque/core/exec.h"

#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/parallel.h"
#include "kernels/exec_backend.h"

namespace calque {
namespace {

Exec open_cpu(int threads) {
  const int workers = threads > 0 ? threads : available_threads();
  return Exec(std::make_shared<const Exec::Backend>(
      Exec::Backend{"cpu", cpu_kernels(), cpu::Workers(workers)}));
}

[[noreturn]] void refuse(std::string_view device, std::string_view reason) {
  throw Error(ErrorKind::kConfig, "",
              fmt::format("device '{}': {}; available here: {}", device, reason,
                          fmt::join(available_devices(), ", ")));
}

}  // namespace

const std::string& Exec::name() const { return backend_->name; }

Exec open_exec(std::string_view device, int threads) {
  if (threads < 0)
    throw Error(ErrorKind::kConfig, "",
                fmt::format("threads: {} is negative; 0 means all the process may use", threads));
  if (device == "cpu" || device == "auto") return open_cpu(threads);
  if (device.starts_with("cuda")) refuse(device, "this build of calque has no CUDA support");
  refuse(device, "unknown; expected 'cpu', 'auto' or 'cuda:N'");
}

std::vector<std::string> available_devices() { return {"cpu"}; }

}  // namespace calque
