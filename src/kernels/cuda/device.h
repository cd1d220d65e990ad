#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <span>
#include <string_view>

#include "calque/core/matrix.h"
#include "kernels/cuda/libraries.h"
#include "kernels/exec_backend.h"

namespace calque::cuda {

// Throws calque::Error: kResource for memory ("cuda:0: 3.1 GiB wanted, 1.2 GiB free while ..."),
// else kInternal with CUDA's own words.
void check(cudaError_t status, std::string_view doing);

// One GPU as an Exec holds it: a stream and the libraries' handles.
class Device {
 public:
  explicit Device(int index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  Libraries& libraries() { return *libraries_; }
  void synchronize();

 private:
  friend class Session;
  int index_ = 0;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Libraries> libraries_;
  std::mutex mutex_;
};

// An operation's hold on the device: makes it the calling thread's current one and keeps other
// threads' operations out until it ends, so that buffers and handles need no locks of their own.
class Session {
 public:
  explicit Session(const Exec::Backend& backend);
  ~Session();  // waits for what was queued
  Device& device() const { return device_; }
  cudaStream_t stream() const { return device_.stream(); }
  Libraries& libraries() const { return device_.libraries(); }

 private:
  Device& device_;
  std::unique_lock<std::mutex> lock_;
};

// Owned device memory, row-major without gaps; T is trivially copyable. Move-only.
template <typename T>
class DeviceMatrix {
 public:
  DeviceMatrix() = default;
  DeviceMatrix(Index rows, Index cols);  // uninitialized; on the current device
  DeviceMatrix(DeviceMatrix&&) noexcept;
  DeviceMatrix& operator=(DeviceMatrix&&) noexcept;
  ~DeviceMatrix();

  // Copies whose host side is ordinary memory: done when they return.
  static DeviceMatrix from(MatrixView<const T> host, const Session& session);
  void download(MatrixView<T> host, const Session& session) const;
  void fill_zero(const Session& session);  // queued

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* row(Index r) { return data_ + r * cols_; }
  const T* row(Index r) const { return data_ + r * cols_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }

 private:
  T* data_ = nullptr;
  Index rows_ = 0;
  Index cols_ = 0;
};

// One row.
template <typename T>
DeviceMatrix<T> upload(std::span<const T> host, const Session& session) {
  return DeviceMatrix<T>::from({host.data(), 1, static_cast<Index>(host.size())}, session);
}

}  // namespace calque::cuda
