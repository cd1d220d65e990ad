#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>

#include "calque/core/matrix.h"

namespace calque::io {

// Bytes that live in memory, or in an unnamed file that is mapped (so that their pages can leave
// memory and come back). Move-only; 64-byte aligned; contents start undefined.
class ScratchArray {
 public:
  ScratchArray() = default;
  ScratchArray(ScratchArray&& other) noexcept;
  ScratchArray& operator=(ScratchArray&& other) noexcept;
  ~ScratchArray();

  std::byte* data() const { return data_; }
  std::uint64_t size() const { return size_; }
  bool in_file() const { return in_file_; }
  // Says that bytes [offset, offset + count) will not be touched soon: pages of a file leave this
  // process's memory, their contents stay. No effect on an array in memory. Safe from several
  // threads.
  void release(std::uint64_t offset, std::uint64_t count) const;

 private:
  friend class ScratchSpace;
  struct Account;
  std::shared_ptr<Account> account_;
  std::byte* data_ = nullptr;
  std::uint64_t size_ = 0;
  bool in_file_ = false;
};

// Allocates large intermediate arrays: in memory up to a budget, in files beyond it. Thread-safe.
class ScratchSpace {
 public:
  // At most `ram_bytes` of arrays are in memory at a time; later ones go to files in `folder`
  // (created if missing). With an empty folder everything stays in memory, whatever the budget. The
  // files have no names and vanish with the process.
  ScratchSpace(std::uint64_t ram_bytes, std::filesystem::path folder);

  // Reserves the disk space of a file at once: Error(kResource, "E302") with path, bytes wanted and
  // bytes free, instead of a crash when the disk fills. Memory that cannot be had is
  // Error(kResource, "E304") with the bytes wanted.
  ScratchArray allocate(std::uint64_t bytes);

  std::uint64_t peak_ram_bytes() const;
  std::uint64_t peak_file_bytes() const;

 private:
  std::shared_ptr<ScratchArray::Account> account_;
};

// A row-major matrix without gaps in a ScratchArray.
template <typename T>
class ScratchMatrix {
 public:
  ScratchMatrix() = default;
  ScratchMatrix(ScratchSpace& space, Index rows, Index cols)
      : array_(space.allocate(static_cast<std::uint64_t>(rows * cols) * sizeof(T))),
        rows_(rows),
        cols_(cols) {}

  MatrixView<T> view() const { return {reinterpret_cast<T*>(array_.data()), rows_, cols_}; }
  void release_rows(Index first, Index count) const {
    array_.release(static_cast<std::uint64_t>(first * cols_) * sizeof(T),
                   static_cast<std::uint64_t>(count * cols_) * sizeof(T));
  }

 private:
  ScratchArray array_;
  Index rows_ = 0;
  Index cols_ = 0;
};

}  // namespace calque::io
