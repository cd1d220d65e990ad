#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "io/resource_error.h"
#include "io/unfinished.h"

namespace calque::io {
namespace {

std::filesystem::path partial_of(std::filesystem::path path) { return path += ".partial"; }

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

void create_parents(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(folder_of(path), error);
  if (error) throw_resource_error(folder_of(path), "create the folder", error.value());
}

}  // namespace

void throw_resource_error(const std::filesystem::path& path, std::string_view action, int reason,
                          std::uint64_t bytes_wanted) {
  std::string message = fmt::format("{}: cannot {}: {}", path.string(), action,
                                    std::generic_category().message(reason));
  std::error_code error;
  const auto space = std::filesystem::space(folder_of(path), error);
  if (!error && bytes_wanted > 0)
    message += fmt::format("; {} bytes wanted, {} bytes free", bytes_wanted, space.available);
  const bool full = reason == ENOSPC || reason == EDQUOT || reason == EFBIG;
  if (full)
    message += ". No half-written file became visible; free some space or choose another folder";
  throw Error(ErrorKind::kResource, full ? "E302" : "E303", message);
}

void throw_missing_part(const std::filesystem::path& path, std::string_view what) {
  throw Error(ErrorKind::kInput, "E308",
              fmt::format("cannot resume: {} {}. It is a finished part of the run: restore it, or "
                          "start again with --resume never",
                          path.string(), what));
}

void require_header(const AtomicFile& file, std::string_view header,
                    const std::filesystem::path& path) {
  std::string there(header.size(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(there.data(), there.size())));
  if (there != header) throw_missing_part(partial_of(path), "belongs to another run");
}

namespace {

std::string stamp_of_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  const auto time = std::filesystem::last_write_time(path, error);
  return error ? fmt::format("{} missing\n", path.string())
               : fmt::format("{} {} {}\n", path.string(), size, time.time_since_epoch().count());
}

}  // namespace

std::string stamp_of(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::weakly_canonical(path);
  if (!std::filesystem::is_directory(whole)) return stamp_of_file(whole);
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::directory_entry& entry : std::filesystem::directory_iterator(whole))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string stamp;
  for (const std::filesystem::path& file : files) stamp += stamp_of_file(file);
  return stamp;
}

std::string identity_of(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return "";
  return fmt::format("{}:{}", status.st_dev, status.st_ino);
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) throw_resource_error(folder, "open the folder", errno);
  const int failed = ::fsync(descriptor) != 0 ? errno : 0;
  ::close(descriptor);
  // Some network file systems cannot sync a folder and say EINVAL; the rename stands all the same.
  if (failed != 0 && failed != EINVAL) throw_resource_error(folder, "sync the folder", failed);
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  create_parents(path_);
  const std::filesystem::path partial = partial_of(path_);
  // A left-over of a killed run may be a link or have other rights: start from a new file.
  ::unlink(partial.c_str());
  descriptor_ = ::open(partial.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw_resource_error(partial, "create the file", errno);
  note_unfinished(partial);
}

AtomicFile::AtomicFile(std::filesystem::path path, GoOn go_on) : path_(std::move(path)) {
  const std::filesystem::path partial = partial_of(path_);
  descriptor_ = ::open(partial.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor_ < 0 && errno != ENOENT) throw_resource_error(partial, "open the file", errno);
  if (descriptor_ < 0) throw_missing_part(partial, "is missing");
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || static_cast<std::uint64_t>(status.st_size) < go_on.bytes) {
    ::close(descriptor_);
    throw_missing_part(partial,
                       fmt::format("has {} bytes, {} are needed", status.st_size, go_on.bytes));
  }
  size_ = reserved_ = go_on.bytes;
  kept_ = true;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(std::exchange(other.size_, 0)),
      reserved_(std::exchange(other.reserved_, 0)),
      synced_(std::exchange(other.synced_, false)),
      kept_(std::exchange(other.kept_, false)) {}

void AtomicFile::take_back(const std::filesystem::path& path) {
  if (::rename(path.c_str(), partial_of(path).c_str()) != 0)
    throw_resource_error(path, "rename the finished file", errno);
}

std::filesystem::path AtomicFile::partial_name(const std::filesystem::path& path) {
  return partial_of(path);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (kept_) return;
  ::unlink(partial_of(path_).c_str());
  forget_unfinished(partial_of(path_));
}

void AtomicFile::reserve(std::uint64_t bytes) {
  if (bytes == 0) return;
  const int failed = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes));
  if (failed != 0) throw_resource_error(partial_of(path_), "reserve space", failed, bytes);
  reserved_ = std::max(reserved_, bytes);
}

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                                   static_cast<off_t>(offset + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0)
      throw_resource_error(partial_of(path_), "write", wrote < 0 ? errno : ENOSPC,
                           bytes.size() - done);
    done += static_cast<std::size_t>(wrote);
  }
  size_ = std::max(size_, offset + bytes.size());
  synced_ = false;
}

void AtomicFile::append(std::span<const std::byte> bytes) { write_at(size_, bytes); }

void AtomicFile::append(std::string_view text) {
  append(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::read_at(std::uint64_t offset, std::span<std::byte> bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(descriptor_, bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_resource_error(partial_of(path_), "read", errno);
    if (got == 0) throw_missing_part(partial_of(path_), "ends too early");
    done += static_cast<std::size_t>(got);
  }
}

// Space that is reserved and not written yet stays reserved.
void AtomicFile::keep() {
  if (::fdatasync(descriptor_) != 0) throw_resource_error(partial_of(path_), "write", errno, size_);
  forget_unfinished(partial_of(path_));
  kept_ = true;
}

void AtomicFile::sync() {
  const std::filesystem::path partial = partial_of(path_);
  const bool trim = reserved_ > size_;
  if (trim && ::ftruncate(descriptor_, static_cast<off_t>(size_)) != 0)
    throw_resource_error(partial, "trim the file", errno);
  if (::fsync(descriptor_) != 0) throw_resource_error(partial, "write", errno, size_);
  synced_ = true;
}

void AtomicFile::commit() {
  if (!synced_) sync();
  const std::filesystem::path partial = partial_of(path_);
  if (::rename(partial.c_str(), path_.c_str()) != 0)
    throw_resource_error(path_, "rename the finished file to this name", errno);
  forget_unfinished(partial);
  ::close(std::exchange(descriptor_, -1));
  sync_folder(folder_of(path_));
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.append(text);
  file.commit();
}

void copy_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  const MappedFile source(from);
  AtomicFile target(to);
  target.reserve(source.bytes().size());
  constexpr std::size_t kChunk = std::size_t{64} << 20;
  for (std::size_t start = 0; start < source.bytes().size(); start += kChunk) {
    const auto left = source.bytes().subspan(start);
    const auto part = left.first(std::min(kChunk, left.size()));
    target.append(part);
    source.drop(part);
  }
  target.commit();
}

}  // namespace calque::io
