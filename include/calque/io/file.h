#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace calque::io {

// A whole file mapped read-only. Pages come from disk when touched and can be dropped by the
// kernel, so a mapped checkpoint costs no memory of its own. Move-only.
class MappedFile {
 public:
  // Throws Error(kInput) naming the path and the system's reason. An empty file maps to no bytes.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  // Tells the kernel that `part` (of bytes()) will not be read again soon.
  void drop(std::span<const std::byte> part) const;
  // Tells it that `part` will be read soon: it comes from disk meanwhile, outside this process's
  // memory.
  void will_need(std::span<const std::byte> part) const;

 private:
  void advise(std::span<const std::byte> part, int advice) const;

  std::span<const std::byte> bytes_;
};

// Error(kInput) if something stands in for the file at `path` whose download was not completed: a
// link to a file that is not there, or a git-lfs pointer. Does nothing if there is no such file.
void refuse_placeholder(const std::filesystem::path& path);

// Identifies the file or folder at `path`: "device:inode", unchanged by a rename; "" if there is
// none.
std::string identity_of(const std::filesystem::path& path);

// Identifies the state of a file or folder: its path, and the sizes and modification times of its
// files. Equal stamps mean unchanged contents, as for make.
std::string stamp_of(const std::filesystem::path& path);

// Request to continue a partial file that an earlier process kept, at least `bytes` long.
struct GoOn {
  std::uint64_t bytes = 0;
};

// A file that appears whole or not at all: bytes go to "<path>.partial"; `commit()` fsyncs it,
// renames it to `path` and fsyncs the folder. Destroyed without commit, it leaves nothing behind,
// unless it was kept. Creates missing parent folders. Every failure is Error(kResource) with path,
// reason, bytes wanted and bytes free. Move-only.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  // Continues with size() = `go_on.bytes`. Error(kInput, "E308") if the file is missing or shorter.
  AtomicFile(std::filesystem::path path, GoOn go_on);
  // Renames the finished file at `path` back to its partial name.
  static void take_back(const std::filesystem::path& path);
  static std::filesystem::path partial_name(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // Reserves `bytes` on disk now (posix_fallocate), so that a full disk is noticed before the work.
  // Does not change size(). commit() releases the reserved bytes that were not written.
  void reserve(std::uint64_t bytes);
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  void append(std::span<const std::byte> bytes);
  void append(std::string_view text);
  std::uint64_t size() const { return size_; }
  // Error(kInput, "E308") past the end.
  void read_at(std::uint64_t offset, std::span<std::byte> bytes) const;
  // Syncs the bytes written so far. They stay on disk under the partial name if the process ends,
  // or this object is destroyed, before commit().
  void keep();
  // Syncs the file, so that only the rename is left for commit(). Use it to sync several files
  // before any of them appears.
  void sync();
  void commit();

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  std::uint64_t reserved_ = 0;
  bool synced_ = false;
  bool kept_ = false;
};

// Writes `text` through an AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view text);

// The whole file. Throws Error(kInput) naming the path and the reason.
std::string read_file(const std::filesystem::path& path);

// Byte-for-byte copy through an AtomicFile.
void copy_file(const std::filesystem::path& from, const std::filesystem::path& to);

// A folder that appears whole or not at all: fill `staging()` ("<path>.partial"), then `commit()`
// renames it to `path`. An existing `path` is refused in the constructor with Error(kConfig),
// unless `overwrite`, in which case it is replaced at commit. A stale "<path>.partial" of an
// earlier run is removed first. Destroyed without commit, it leaves nothing behind.
class AtomicFolder {
 public:
  AtomicFolder(std::filesystem::path path, bool overwrite);
  // Continues with the staging folder that an earlier process kept; `identity` is what its keep()
  // returned. A folder that was already committed becomes the staging folder again. Error(kInput,
  // "E308") if neither exists.
  AtomicFolder(std::filesystem::path path, bool overwrite, const std::string& identity);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  const std::filesystem::path& path() const { return path_; }
  const std::filesystem::path& staging() const { return staging_; }
  // Keeps the staging folder if the process ends, or this object is destroyed, before commit().
  // Returns the identity to continue with.
  std::string keep();
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path staging_;
  bool overwrite_ = false;
  bool committed_ = false;
  bool kept_ = false;
};

// Deletes everything that this process's AtomicFiles and AtomicFolders have neither committed nor
// kept, for a program that is interrupted and will not run their destructors. Safe from any thread
// (not from a signal handler).
void remove_unfinished() noexcept;

}  // namespace calque::io
