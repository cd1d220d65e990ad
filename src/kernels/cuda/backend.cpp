#include "kernels/cuda/backend.h"

#include <fmt/format.h>

#include "kernels/cuda/device.h"

namespace calque::cuda {
namespace {

constexpr KernelTable kKernels = {
#define CALQUE_ENTRY(enumerator, name, ...) .name = cuda::name,
    CALQUE_OPERATIONS(CALQUE_ENTRY, CALQUE_LEAVE_OUT)
#undef CALQUE_ENTRY
};

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string why_no_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  if (status == cudaSuccess && count > 0) return "";
  return fmt::format("no GPU that CUDA can use: {}",
                     status == cudaSuccess ? "none is visible" : cudaGetErrorString(status));
}

DeviceFacts facts_of(int index) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, index), "asking for the device's properties");
  std::size_t free_bytes = 0, total_bytes = 0;
  check(cudaSetDevice(index), "choosing the device");
  check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the device's memory");
  return {.name = fmt::format("cuda:{}", index),
          .model = properties.name,
          .detail = fmt::format("compute capability {}.{}, {} multiprocessors", properties.major,
                                properties.minor, properties.multiProcessorCount),
          .memory_bytes = total_bytes,
          .free_bytes = free_bytes};
}

std::vector<DeviceFacts> devices() {
  std::vector<DeviceFacts> facts;
  for (int index = 0; index < device_count(); ++index) facts.push_back(facts_of(index));
  return facts;
}

std::shared_ptr<void> open(int index) { return std::make_shared<Device>(index); }

}  // namespace
}  // namespace calque::cuda

const calque::CudaBackend* calque_cuda_backend() {
  using namespace calque::cuda;
  static const calque::CudaBackend backend = {.kernels = &kKernels,
                                              .device_count = device_count,
                                              .devices = devices,
                                              .open = open,
                                              .why_no_device = why_no_device};
  return &backend;
}
