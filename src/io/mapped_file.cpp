#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse_file(const std::filesystem::path& path, std::string_view reason) {
  throw Error(ErrorKind::kInput, "E202", fmt::format("{}: cannot read: {}", path.string(), reason));
}

[[noreturn]] void refuse_errno(const std::filesystem::path& path) {
  refuse_file(path, std::generic_category().message(errno));
}

class Descriptor {
 public:
  explicit Descriptor(const std::filesystem::path& path)
      : value_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (value_ < 0) refuse_errno(path);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(value_); }
  int get() const { return value_; }

 private:
  int value_;
};

struct stat status_of(const Descriptor& file, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse_errno(path);
  if (S_ISDIR(status.st_mode)) refuse_file(path, "it is a folder, but a file is needed");
  return status;
}

void unmap(std::span<const std::byte> bytes) {
  if (!bytes.empty()) ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  const Descriptor file(path);
  const struct stat status = status_of(file, path);
  if (!S_ISREG(status.st_mode)) refuse_file(path, "it is not a regular file");
  if (status.st_size == 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) refuse_errno(path);
  bytes_ = {static_cast<const std::byte*>(data), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, std::span<const std::byte>())) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  unmap(bytes_);
  bytes_ = std::exchange(other.bytes_, std::span<const std::byte>());
  return *this;
}

MappedFile::~MappedFile() { unmap(bytes_); }

void MappedFile::drop(std::span<const std::byte> part) const { advise(part, MADV_DONTNEED); }

void MappedFile::will_need(std::span<const std::byte> part) const { advise(part, MADV_WILLNEED); }

// Works on whole pages, rounded outwards: a dropped neighbour on the same page is read again from
// the page cache.
void MappedFile::advise(std::span<const std::byte> part, int advice) const {
  if (part.empty()) return;
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const auto offset = static_cast<std::size_t>(part.data() - bytes_.data());
  const std::size_t first = offset / page * page;
  const auto* start = bytes_.data() + first;
  ::madvise(const_cast<std::byte*>(start), offset + part.size() - first, advice);
}

std::string read_file(const std::filesystem::path& path) {
  const Descriptor file(path);
  std::string text;
  text.reserve(static_cast<std::size_t>(status_of(file, path).st_size));
  constexpr std::size_t kChunk = 1 << 16;
  while (true) {
    const std::size_t before = text.size();
    text.resize(before + kChunk);
    const ssize_t got = ::read(file.get(), text.data() + before, kChunk);
    if (got < 0 && errno != EINTR) refuse_errno(path);
    text.resize(before + static_cast<std::size_t>(got > 0 ? got : 0));
    if (got == 0) return text;
  }
}

}  // namespace calque::io
