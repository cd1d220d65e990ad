#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace calque {

// A stage runs here. Opaque on purpose: algorithms pass it on and cannot ask which device it is;
// only src/kernels/<op>.cpp looks inside. Cheap to copy; safe to use from several threads.
class Exec {
 public:
  // "cpu", "cuda:0": for reports.
  const std::string& name() const;

  struct Backend;  // src/kernels/kernel_table.h
  explicit Exec(std::shared_ptr<const Backend> backend) : backend_(std::move(backend)) {}
  const Backend& backend() const { return *backend_; }

 private:
  std::shared_ptr<const Backend> backend_;
};

// `device`: "cpu", "cuda:N", "cuda" (the first) or "auto" (the first CUDA device, else the CPU).
// `threads`: CPU worker threads, 0 for all the process may use. Results never depend on `threads`.
// Throws Error(kConfig) if this build or machine has no such device.
Exec open_exec(std::string_view device, int threads = 0);

// An accelerator of this machine.
struct DeviceFacts {
  std::string name;    // "cuda:0"
  std::string model;   // "NVIDIA H100 80GB HBM3"
  std::string detail;  // "compute capability 9.0, 132 multiprocessors"
  std::uint64_t memory_bytes = 0;
  std::uint64_t free_bytes = 0;
};

// Empty where there is none; `why_no_accelerator` then says why ("built without CUDA", "no NVIDIA
// driver", ...).
std::vector<DeviceFacts> accelerators();
std::string why_no_accelerator();

// Devices that open_exec accepts here: {"cpu"} or {"cpu", "cuda:0", ...}, the fastest of them
// first.
std::vector<std::string> available_devices();

}  // namespace calque
