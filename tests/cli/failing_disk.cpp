// Preloaded into the program by resume_faults_test.cpp. Call number FAIL_AT (from 1) to one of the
// functions that change the disk is not executed. FAIL_HOW=full: it and all later calls report a
// full disk. FAIL_HOW=kill: the process is killed instead.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

long fail_at() {
  const char* text = std::getenv("FAIL_AT");
  return text == nullptr ? 0 : std::atol(text);
}

bool kills() {
  const char* text = std::getenv("FAIL_HOW");
  return text != nullptr && std::strcmp(text, "kill") == 0;
}

// True if this call should fail.
bool fails() {
  static const long at = fail_at();
  static const bool by_killing = kills();
  static std::atomic<long> calls{0};
  const long call = ++calls;
  if (at == 0 || call < at) return false;
  if (by_killing) ::kill(::getpid(), SIGKILL);
  return true;
}

template <typename Function>
Function original(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

int full() {
  errno = ENOSPC;
  return -1;
}

}  // namespace

extern "C" {

ssize_t pwrite(int file, const void* data, size_t size, off_t offset) {
  static const auto call = original<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return fails() ? full() : call(file, data, size, offset);
}

ssize_t pwrite64(int file, const void* data, size_t size, off_t offset) {
  return pwrite(file, data, size, offset);
}

// Only the program's files: 1 and 2 are the terminal.
ssize_t write(int file, const void* data, size_t size) {
  static const auto call = original<ssize_t (*)(int, const void*, size_t)>("write");
  return file > 2 && fails() ? full() : call(file, data, size);
}

int posix_fallocate(int file, off_t offset, off_t size) {
  static const auto call = original<int (*)(int, off_t, off_t)>("posix_fallocate");
  return fails() ? ENOSPC : call(file, offset, size);
}

int posix_fallocate64(int file, off_t offset, off_t size) {
  return posix_fallocate(file, offset, size);
}

int fsync(int file) {
  static const auto call = original<int (*)(int)>("fsync");
  return fails() ? full() : call(file);
}

int fdatasync(int file) {
  static const auto call = original<int (*)(int)>("fdatasync");
  return fails() ? full() : call(file);
}

int rename(const char* from, const char* to) {
  static const auto call = original<int (*)(const char*, const char*)>("rename");
  return fails() ? full() : call(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  static const auto call =
      original<int (*)(int, const char*, int, const char*, unsigned)>("renameat2");
  return fails() ? full() : call(from_folder, from, to_folder, to, flags);
}

// Removing needs no space, so only a kill applies here.
int unlink(const char* path) {
  static const auto call = original<int (*)(const char*)>("unlink");
  if (kills()) fails();
  return call(path);
}

int remove(const char* path) {
  static const auto call = original<int (*)(const char*)>("remove");
  if (kills()) fails();
  return call(path);
}

}  // extern "C"
