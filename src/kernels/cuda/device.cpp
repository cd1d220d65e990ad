#include "kernels/cuda/device.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::cuda {
namespace {

double gibibytes(std::size_t bytes) { return static_cast<double>(bytes) * 0x1p-30; }

[[noreturn]] void refuse_allocation(std::size_t bytes) {
  int device = 0;
  std::size_t free_bytes = 0, total_bytes = 0;
  cudaGetDevice(&device);
  cudaMemGetInfo(&free_bytes, &total_bytes);
  throw Error(ErrorKind::kResource, "",
              fmt::format("cuda:{}: {:.2f} GiB wanted, {:.2f} of {:.2f} GiB free; run this stage "
                          "with device: cpu, or free the GPU of other programs",
                          device, gibibytes(bytes), gibibytes(free_bytes), gibibytes(total_bytes)));
}

}  // namespace

void check(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next launch would report this one again
  const bool memory = status == cudaErrorMemoryAllocation;
  throw Error(memory ? ErrorKind::kResource : ErrorKind::kInternal, "",
              fmt::format("CUDA, while {}: {} ({})", doing, cudaGetErrorString(status),
                          cudaGetErrorName(status)));
}

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    refuse_allocation(bytes);
  }
  check(status, "allocating memory");
  return memory;
}

void release(void* memory) noexcept {
  if (memory != nullptr) cudaFree(memory);
}

void upload(void* device, const void* host, std::size_t host_stride, std::size_t row_bytes,
            Index rows, cudaStream_t stream) {
  if (rows == 0 || row_bytes == 0) return;
  check(cudaMemcpy2DAsync(device, row_bytes, host, host_stride, row_bytes,
                          static_cast<std::size_t>(rows), cudaMemcpyHostToDevice, stream),
        "copying to the device");
  check(cudaStreamSynchronize(stream), "copying to the device");
}

void download(void* host, std::size_t host_stride, const void* device, std::size_t row_bytes,
              Index rows, cudaStream_t stream) {
  if (rows == 0 || row_bytes == 0) return;
  check(cudaMemcpy2DAsync(host, host_stride, device, row_bytes, row_bytes,
                          static_cast<std::size_t>(rows), cudaMemcpyDeviceToHost, stream),
        "copying from the device");
  check(cudaStreamSynchronize(stream), "copying from the device");
}

void fill_zero(void* device, std::size_t bytes, cudaStream_t stream) {
  if (bytes > 0) check(cudaMemsetAsync(device, 0, bytes, stream), "clearing memory");
}

void wait_for(cudaStream_t other, const Session& session) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event");
  cudaError_t status = cudaEventRecord(event, other);
  if (status == cudaSuccess) status = cudaStreamWaitEvent(session.stream(), event, 0);
  cudaEventDestroy(event);  // once nothing waits for it any more
  check(status, "waiting for another stream");
}

// A stream that does not wait for the legacy default stream, which LibTorch computes on.
Device::Device(int index) : index_(index) {
  check(cudaSetDevice(index), "choosing the device");
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream");
  try {
    libraries_ = std::make_unique<Libraries>(stream_);
  } catch (...) {
    cudaStreamDestroy(stream_);
    throw;
  }
}

Device::~Device() {
  cudaSetDevice(index_);
  libraries_.reset();
  cudaStreamDestroy(stream_);
}

void Device::synchronize() { check(cudaStreamSynchronize(stream_), "computing"); }

Session::Session(const Exec::Backend& backend)
    : Session(*static_cast<Device*>(backend.device.get())) {}

Session::Session(Device& device) : device_(device), lock_(device.mutex_) {
  check(cudaSetDevice(device.index_), "choosing the device");
}

Session::~Session() { cudaStreamSynchronize(device_.stream_); }

}  // namespace calque::cuda
