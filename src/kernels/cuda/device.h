#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <span>
#include <type_traits>
#include <utility>

#include "calque/core/matrix.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/libraries.h"
#include "kernels/kernel_table.h"

namespace calque::cuda {

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
  void synchronize();  // waits for what was queued

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
  explicit Session(Device& device);
  ~Session();  // waits for what was queued; an error of it shows in the next operation
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Device& device() const { return device_; }
  cudaStream_t stream() const { return device_.stream(); }
  Libraries& libraries() const { return device_.libraries(); }

 private:
  Device& device_;
  std::unique_lock<std::mutex> lock_;
};

// Device memory as bytes; what DeviceMatrix is made of. Allocation fails with kResource, saying how
// much was wanted and how much is free.
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;
void upload(void* device, const void* host, std::size_t host_stride, std::size_t row_bytes,
            Index rows, cudaStream_t stream);
void download(void* host, std::size_t host_stride, const void* device, std::size_t row_bytes,
              Index rows, cudaStream_t stream);
void fill_zero(void* device, std::size_t bytes, cudaStream_t stream);

// Owned device memory, row-major without gaps; T is trivially copyable. Move-only. A moved-from
// matrix is 0 x 0.
template <typename T>
class DeviceMatrix {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  DeviceMatrix() = default;
  // Uninitialized; on the current device.
  DeviceMatrix(Index rows, Index cols)
      : data_(static_cast<T*>(allocate(bytes_of(rows * cols)))), rows_(rows), cols_(cols) {}
  DeviceMatrix(DeviceMatrix&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  DeviceMatrix& operator=(DeviceMatrix&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
    return *this;
  }
  ~DeviceMatrix() { release(data_); }

  // Copies whose host side is ordinary memory: done when they return.
  static DeviceMatrix from(MatrixView<const T> host, const Session& session) {
    DeviceMatrix matrix(host.rows(), host.cols());
    matrix.upload(host, session);
    return matrix;
  }
  // Into the first rows of this matrix, which has as many columns.
  void upload(MatrixView<const T> host, const Session& session) {
    cuda::upload(data_, host.data(), bytes_of(host.stride()), bytes_of(cols_), host.rows(),
                 session.stream());
  }
  // The first rows of this matrix, of a single row also its first elements.
  void download(MatrixView<T> host, const Session& session) const {
    cuda::download(host.data(), bytes_of(host.stride()), data_, bytes_of(host.cols()), host.rows(),
                   session.stream());
  }
  void fill_zero(const Session& session) {  // queued
    cuda::fill_zero(data_, bytes_of(size()), session.stream());
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* row(Index r) { return data_ + r * cols_; }
  const T* row(Index r) const { return data_ + r * cols_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }

  DeviceView<T> view() { return {data_, rows_, cols_, cols_}; }
  DeviceView<const T> view() const { return {data_, rows_, cols_, cols_}; }

 private:
  static std::size_t bytes_of(Index count) { return static_cast<std::size_t>(count) * sizeof(T); }

  T* data_ = nullptr;
  Index rows_ = 0;
  Index cols_ = 0;
};

// Work queued on the session's stream from here on waits for work queued on `other` so far.
void wait_for(cudaStream_t other, const Session& session);

// One row.
template <typename T>
DeviceMatrix<T> upload(std::span<const T> host, const Session& session) {
  return DeviceMatrix<T>::from({host.data(), 1, static_cast<Index>(host.size())}, session);
}

}  // namespace calque::cuda
