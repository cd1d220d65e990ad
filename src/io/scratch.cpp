#include "calque/io/scratch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/memory.h"
#include "io/resource_error.h"

namespace calque::io {

// Shared by a space and its arrays: an array may outlive its space.
struct ScratchArray::Account {
  Account(std::uint64_t ram, std::filesystem::path where)
      : ram_limit(ram), folder(std::move(where)) {}

  // Returns true if an array of `bytes` goes to a file, and counts it.
  bool add(std::uint64_t bytes) {
    const std::lock_guard lock(mutex);
    const bool in_file = !folder.empty() && (bytes > ram_limit || ram_bytes > ram_limit - bytes);
    std::uint64_t& now = in_file ? file_bytes : ram_bytes;
    std::uint64_t& peak = in_file ? peak_file_bytes : peak_ram_bytes;
    now += bytes;
    peak = std::max(peak, now);
    return in_file;
  }
  void remove(std::uint64_t bytes, bool in_file) {
    const std::lock_guard lock(mutex);
    (in_file ? file_bytes : ram_bytes) -= bytes;
  }
  std::uint64_t read(const std::uint64_t Account::*count) {
    const std::lock_guard lock(mutex);
    return this->*count;
  }

  const std::uint64_t ram_limit;
  const std::filesystem::path folder;
  std::mutex mutex;
  std::uint64_t ram_bytes = 0, file_bytes = 0;
  std::uint64_t peak_ram_bytes = 0, peak_file_bytes = 0;
};

namespace {

class Closing {
 public:
  explicit Closing(int value) : value_(value) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() {
    if (value_ >= 0) ::close(value_);
  }
  int get() const { return value_; }

 private:
  int value_;
};

// For file systems that do not support unnamed files.
int open_and_unlink(const std::filesystem::path& folder) {
  std::string name = (folder / "calque-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor >= 0) ::unlink(name.c_str());
  return descriptor;
}

int open_nameless(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_resource_error(folder, "create the folder", error.value());
  int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
    descriptor = open_and_unlink(folder);
  if (descriptor < 0) throw_resource_error(folder / "", "create a file in it", errno);
  return descriptor;
}

// The kernel decides when to write pages back: an array freed before its pages were written costs
// no writes at all, and a process that dirties pages faster than the disk accepts them is slowed
// down.
std::byte* map_file(const std::filesystem::path& folder, std::uint64_t bytes) {
  const Closing file(open_nameless(folder));
  const int failed = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes));
  if (failed != 0)
    throw_resource_error(folder / "", "reserve space for activations", failed, bytes);
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (data == MAP_FAILED) throw_resource_error(folder / "", "map a file", errno, bytes);
  return static_cast<std::byte*>(data);
}

}  // namespace

ScratchArray::ScratchArray(ScratchArray&& other) noexcept
    : account_(std::move(other.account_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      in_file_(std::exchange(other.in_file_, false)) {}

ScratchArray& ScratchArray::operator=(ScratchArray&& other) noexcept {
  ScratchArray taken(std::move(other));
  std::swap(account_, taken.account_);
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(in_file_, taken.in_file_);
  return *this;
}

ScratchArray::~ScratchArray() {
  if (data_ == nullptr) return;
  if (in_file_)
    ::munmap(data_, size_);
  else
    free_array(data_);
  account_->remove(size_, in_file_);
}

void ScratchArray::release(std::uint64_t offset, std::uint64_t count) const {
  if (!in_file_ || count == 0) return;
  // Rounds outwards to the pieces that the kernel maps around a page fault (fault_around_bytes,
  // aligned except at the start of a mapping). Otherwise the seams of an array that is read bit by
  // bit would stay in memory. A neighbour in the same piece, even one being written, finds its
  // pages again in the page cache.
  constexpr std::uintptr_t kPiece = std::uintptr_t{64} << 10;
  const auto start = reinterpret_cast<std::uintptr_t>(data_);
  const std::uintptr_t from = std::max((start + offset) / kPiece * kPiece, start);
  const std::uintptr_t end = ((start + offset + count) / kPiece + 2) * kPiece;
  ::madvise(reinterpret_cast<void*>(from), std::min(end, start + size_) - from, MADV_DONTNEED);
}

ScratchSpace::ScratchSpace(std::uint64_t ram_bytes, std::filesystem::path folder)
    : account_(std::make_shared<ScratchArray::Account>(ram_bytes, std::move(folder))) {}

ScratchArray ScratchSpace::allocate(std::uint64_t bytes) {
  ScratchArray array;
  if (bytes == 0) return array;
  const bool in_file = account_->add(bytes);
  try {
    array.data_ = in_file ? map_file(account_->folder, bytes)
                          : static_cast<std::byte*>(allocate_array(bytes));
  } catch (...) {
    account_->remove(bytes, in_file);
    throw;
  }
  array.account_ = account_;
  array.size_ = bytes;
  array.in_file_ = in_file;
  return array;
}

std::uint64_t ScratchSpace::peak_ram_bytes() const {
  return account_->read(&ScratchArray::Account::peak_ram_bytes);
}

std::uint64_t ScratchSpace::peak_file_bytes() const {
  return account_->read(&ScratchArray::Account::peak_file_bytes);
}

}  // namespace calque::io
