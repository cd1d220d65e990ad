#include "io/unfinished.h"

#include <mutex>
#include <set>
#include <system_error>

#include "calque/io/file.h"

namespace calque::io {
namespace {

struct Unfinished {
  std::mutex mutex;
  std::set<std::filesystem::path> paths;
};

// One of the few globals: unfinished files on disk belong to the process as a whole.
Unfinished& unfinished() {
  static Unfinished instance;
  return instance;
}

}  // namespace

void note_unfinished(const std::filesystem::path& path) {
  const std::lock_guard lock(unfinished().mutex);
  unfinished().paths.insert(std::filesystem::absolute(path));
}

void forget_unfinished(const std::filesystem::path& path) {
  const std::lock_guard lock(unfinished().mutex);
  unfinished().paths.erase(std::filesystem::absolute(path));
}

void remove_unfinished() noexcept {
  const std::lock_guard lock(unfinished().mutex);
  std::error_code ignored;
  for (const std::filesystem::path& path : unfinished().paths)
    std::filesystem::remove_all(path, ignored);
}

}  // namespace calque::io
