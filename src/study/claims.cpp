#include "study/claims.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::study {

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  std::string host = name[0] == '\0' ? "localhost" : name;
  std::replace(host.begin(), host.end(), ' ', '-');
  return host;
}

void replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::filesystem::path own = path.string() + fmt::format(".{}-{}", host_name(), ::getpid());
  io::write_file(own, text);
  std::error_code error;
  std::filesystem::rename(own, path, error);
  if (error)
    throw Error(ErrorKind::kResource, "E302",
                fmt::format("cannot write '{}': {}", path.string(), error.message()));
}

namespace {

namespace fs = std::filesystem;

fs::path file_of(const fs::path& folder, const std::string& name, int generation) {
  return folder / fmt::format("{}.{}", name, generation);
}

[[noreturn]] void throw_unwritable(const fs::path& path, int error) {
  throw Error(ErrorKind::kResource, "E191",
              fmt::format("cannot write '{}': {}. Choose another output folder", path.string(),
                          std::strerror(error)));
}

// Returns false if another process was faster. The contents, "host pid" and the time, are for
// people and for checking this host's processes.
bool create_exclusively(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (descriptor < 0 && errno == EEXIST) return false;
  if (descriptor < 0) throw_unwritable(path, errno);
  const std::string text = fmt::format("{} {} {}\n", host_name(), ::getpid(), ::time(nullptr));
  const bool written =
      ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(descriptor);
  if (written) return true;
  ::unlink(path.c_str());
  throw_unwritable(path, error);
}

std::optional<int> generation_in(const std::string& file, const std::string& name) {
  if (file.size() <= name.size() + 1 || file.compare(0, name.size(), name) != 0 ||
      file[name.size()] != '.')
    return std::nullopt;
  int generation = 0;
  const char* begin = file.data() + name.size() + 1;
  const char* end = file.data() + file.size();
  const auto [stop, error] = std::from_chars(begin, end, generation);
  return error == std::errc() && stop == end ? std::optional(generation) : std::nullopt;
}

double seconds_of(const struct timespec& time) {
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The current time of the folder's file system.
std::optional<double> now_in(const fs::path& folder) {
  const fs::path probe = folder / fmt::format("now-{}-{}", host_name(), ::getpid());
  const int descriptor = ::open(probe.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (descriptor < 0) return std::nullopt;
  struct stat facts {};
  const bool known = ::futimens(descriptor, nullptr) == 0 && ::fstat(descriptor, &facts) == 0;
  ::close(descriptor);
  ::unlink(probe.c_str());
  return known ? std::optional(seconds_of(facts.st_mtim)) : std::nullopt;
}

}  // namespace

Claims::Claims(fs::path folder, Options options) : folder_(std::move(folder)), options_(options) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw_unwritable(folder_, error.value());
}

std::unique_ptr<Claims::Claim> Claims::take(const std::string& name) const {
  const Standing standing = look(name);
  if (standing.alive) return nullptr;
  const int generation = standing.generation + 1;
  if (!create_exclusively(file_of(folder_, name, generation))) return nullptr;
  return std::make_unique<Claim>(folder_, name, generation, options_.heartbeat);
}

std::optional<std::string> Claims::holder(const std::string& name) const {
  const Standing standing = look(name);
  if (!standing.alive) return std::nullopt;
  return standing.who;
}

Claims::Standing Claims::look(const std::string& name) const {
  Standing standing;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error))
    if (const auto generation = generation_in(entry.path().filename().string(), name))
      standing.generation = std::max(standing.generation, *generation);
  if (standing.generation < 0) return standing;
  const fs::path file = file_of(folder_, name, standing.generation);
  std::string host, pid;
  std::ifstream(file) >> host >> pid;
  standing.who = fmt::format("{}, process {}", host, pid);
  standing.alive = is_alive(file, host + " " + pid);
  return standing;
}

bool Claims::is_alive(const fs::path& file, const std::string& who) const {
  const std::size_t blank = who.find(' ');
  pid_t pid = 0;
  std::from_chars(who.data() + blank + 1, who.data() + who.size(), pid);
  if (pid > 0 && who.substr(0, blank) == host_name() && ::kill(pid, 0) != 0 && errno == ESRCH)
    return false;
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0) return false;  // released in the meantime
  const auto now = now_in(folder_);
  return !now || *now - seconds_of(facts.st_mtim) <
                     std::chrono::duration<double>(options_.stale_after).count();
}

Claims::Claim::Claim(fs::path folder, std::string name, int generation,
                     std::chrono::milliseconds heartbeat)
    : folder_(std::move(folder)),
      name_(std::move(name)),
      generation_(generation),
      heartbeat_(heartbeat),
      thread_([this] { touch_until_told(); }) {}

void Claims::Claim::touch_until_told() {
  const fs::path file = file_of(folder_, name_, generation_);
  std::unique_lock lock(mutex_);
  while (!end_.wait_for(lock, heartbeat_, [this] { return ended_; }))
    ::utimensat(AT_FDCWD, file.c_str(), nullptr, 0);
}

// Removes older generations first: a process that looks in between finds this one and waits.
Claims::Claim::~Claim() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  end_.notify_all();
  thread_.join();
  for (int g = 0; g <= generation_; ++g) ::unlink(file_of(folder_, name_, g).c_str());
}

}  // namespace calque::study
