#include "calque/io/lock_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "io/resource_error.h"
#include "io/unfinished.h"

namespace calque::io {
namespace {

std::string contents_of(int descriptor) {
  std::string text(256, '\0');
  const ssize_t got = ::pread(descriptor, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

std::string line(const std::string& text, std::size_t number) {
  std::size_t begin = 0;
  for (; number > 0 && begin != std::string::npos; --number) {
    begin = text.find('\n', begin);
    if (begin != std::string::npos) ++begin;
  }
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find('\n', begin) - begin);
}

// The previous holder may have removed the file between our open and our lock.
bool is_still_there(int descriptor, const std::filesystem::path& path) {
  struct stat mine {
  }, there{};
  return ::fstat(descriptor, &mine) == 0 && ::stat(path.c_str(), &there) == 0 &&
         mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

}  // namespace

LockFile::LockFile(std::filesystem::path path, const std::string& what) : path_(std::move(path)) {
  if (path_.has_parent_path()) {
    std::error_code error;
    for (std::filesystem::path folder = path_.parent_path();
         !folder.empty() && !std::filesystem::exists(folder, error); folder = folder.parent_path())
      made_.push_back(folder);
    std::filesystem::create_directories(path_.parent_path(), error);
    if (error) throw_resource_error(path_.parent_path(), "create the folder", error.value());
  }
  do {
    if (descriptor_ >= 0) ::close(descriptor_);
    take(what);
  } while (!is_still_there(descriptor_, path_));
  last_holder_ = line(contents_of(descriptor_), 1);
  if (last_holder_.empty()) note_unfinished(path_);
  kept_ = !last_holder_.empty();
}

// On file systems without locks, other processes are not kept out.
void LockFile::take(const std::string& what) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw_resource_error(path_, "create the file", errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  const std::string process = line(contents_of(descriptor_), 0);
  ::close(std::exchange(descriptor_, -1));
  throw Error(ErrorKind::kConfig, "E306",
              fmt::format("{} is in use by another run (process {}). Wait until it ends, or choose "
                          "another path",
                          what, process.empty() ? "unknown" : process));
}

void LockFile::hold_as(const std::string& holder) {
  const std::string text = fmt::format("{}\n{}\n", ::getpid(), holder);
  const bool wrote =
      ::ftruncate(descriptor_, 0) == 0 &&
      ::pwrite(descriptor_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  if (!wrote) throw_resource_error(path_, "write", errno, text.size());
}

void LockFile::keep() {
  forget_unfinished(path_);
  kept_ = true;
}

void LockFile::drop() {
  note_unfinished(path_);
  kept_ = false;
}

LockFile::~LockFile() {
  if (!kept_) {
    ::unlink(path_.c_str());
    forget_unfinished(path_);
    std::error_code not_empty;
    for (const std::filesystem::path& folder : made_)
      if (!std::filesystem::remove(folder, not_empty)) break;
  }
  ::close(descriptor_);
}

}  // namespace calque::io
