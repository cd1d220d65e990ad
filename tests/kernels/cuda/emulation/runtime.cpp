// Stands in for CUDA's runtime library: one device whose memory is the heap's, and streams that do
// at once what is queued. Copies check that their device side is memory of the device.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace {

constexpr std::size_t kDeviceBytes = std::size_t{1} << 30;

class DeviceMemory {
 public:
  void* allocate(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > kDeviceBytes - used_) return nullptr;
    char* const memory = static_cast<char*>(std::malloc(bytes));
    if (memory == nullptr) return nullptr;
    std::memset(memory, 0xFF, bytes);  // NaN, -1: reads of what nobody wrote show
    blocks_[memory] = bytes;
    used_ += bytes;
    return memory;
  }
  bool release(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto block = blocks_.find(static_cast<char*>(memory));
    if (block == blocks_.end()) return false;
    used_ -= block->second;
    blocks_.erase(block);
    std::free(memory);
    return true;
  }
  bool holds(const void* address, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto* const begin = static_cast<const char*>(address);
    auto block = blocks_.upper_bound(const_cast<char*>(begin));
    if (block == blocks_.begin()) return false;
    --block;
    return begin + bytes <= block->first + block->second;
  }
  std::size_t free_bytes() {
    const std::lock_guard lock(mutex_);
    return kDeviceBytes - used_;
  }

 private:
  std::mutex mutex_;
  std::map<char*, std::size_t> blocks_;
  std::size_t used_ = 0;
};

DeviceMemory& memory() {
  static DeviceMemory instance;
  return instance;
}

bool sides_fit(const void* to, std::size_t to_bytes, const void* from, std::size_t from_bytes,
               cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  return memory().holds(to, to_device ? to_bytes : 1) == to_device &&
         memory().holds(from, from_device ? from_bytes : 1) == from_device;
}

std::size_t extent(std::size_t pitch, std::size_t width, std::size_t rows) {
  return (rows - 1) * pitch + width;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** address, std::size_t bytes) {
  *address = memory().allocate(bytes);
  return *address == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  return address == nullptr || memory().release(address) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  *free_bytes = memory().free_bytes();
  *total_bytes = kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from,
                              std::size_t from_pitch, std::size_t width, std::size_t rows,
                              cudaMemcpyKind kind, cudaStream_t) {
  if (rows == 0 || width == 0) return cudaSuccess;
  if (width > to_pitch || width > from_pitch) return cudaErrorInvalidPitchValue;
  if (!sides_fit(to, extent(to_pitch, width, rows), from, extent(from_pitch, width, rows), kind))
    return cudaErrorInvalidValue;
  for (std::size_t row = 0; row < rows; ++row)
    std::memcpy(static_cast<char*>(to) + row * to_pitch,
                static_cast<const char*>(from) + row * from_pitch, width);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemsetAsync(void* address, int value, std::size_t bytes, cudaStream_t) {
  if (!memory().holds(address, bytes)) return cudaErrorInvalidValue;
  std::memset(address, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return cudaErrorInvalidDevice;
  std::memset(properties, 0, sizeof(*properties));
  std::strcpy(properties->name, "Emulated GPU");
  properties->major = 8;
  properties->multiProcessorCount = 1;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorInvalidConfiguration) return "invalid configuration argument";
  return error == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

}  // extern "C"
