#include "calque/core/exec.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "calque/core/copies.h"
#include "calque/core/error.h"
#include "kernels/cpu/table.h"
#include "kernels/kernel_table.h"

namespace calque {

const KernelTable& cpu::chosen_kernels() { return CALQUE_CHOSEN_COPY(kernels)(); }

namespace {

Exec open_cpu(int threads) {
  return Exec(std::make_shared<const Exec::Backend>(
      Exec::Backend{"cpu", cpu::chosen_kernels(), Workers(threads), nullptr}));
}

Exec open_cuda(int index, int threads) {
  const CudaBackend& cuda = *cuda_backend();
  return Exec(std::make_shared<const Exec::Backend>(Exec::Backend{
      fmt::format("cuda:{}", index), *cuda.kernels, Workers(threads), cuda.open(index)}));
}

int cuda_devices() { return cuda_backend() == nullptr ? 0 : cuda_backend()->device_count(); }

[[noreturn]] void refuse(std::string_view device, std::string_view reason) {
  throw Error(ErrorKind::kConfig, "",
              fmt::format("device '{}': {}; available here: {}", device, reason,
                          fmt::join(available_devices(), ", ")));
}

// "cuda" and "cuda:0": 0; nullopt for what is no CUDA device's name.
std::optional<int> cuda_index(std::string_view device) {
  if (device == "cuda") return 0;
  if (!device.starts_with("cuda:")) return std::nullopt;
  const std::string_view digits = device.substr(5);
  int index = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), index);
  if (error != std::errc() || end != digits.end() || index < 0) return std::nullopt;
  return index;
}

}  // namespace

const std::string& Exec::name() const { return backend_->name; }

Exec open_exec(std::string_view device, int threads) {
  if (threads < 0)
    throw Error(ErrorKind::kConfig, "",
                fmt::format("threads: {} is negative; 0 means all the process may use", threads));
  if (device == "cpu") return open_cpu(threads);
  if (device == "auto") return cuda_devices() > 0 ? open_cuda(0, threads) : open_cpu(threads);
  const std::optional<int> index = cuda_index(device);
  if (!index) refuse(device, "unknown; expected 'cpu', 'auto' or 'cuda:N'");
  if (cuda_devices() == 0) refuse(device, why_no_accelerator());
  if (*index >= cuda_devices()) refuse(device, "this machine has no such device");
  return open_cuda(*index, threads);
}

std::vector<DeviceFacts> accelerators() {
  return cuda_backend() == nullptr ? std::vector<DeviceFacts>() : cuda_backend()->devices();
}

std::string why_no_accelerator() {
  return cuda_backend() == nullptr ? why_no_cuda_backend() : cuda_backend()->why_no_device();
}

std::vector<std::string> available_devices() {
  std::vector<std::string> names = {"cpu"};
  for (int index = 0; index < cuda_devices(); ++index)
    names.push_back(fmt::format("cuda:{}", index));
  return names;
}

}  // namespace calque
