#include "cli/last_resort.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "cli/program.h"

namespace calque::cli {
namespace {

void say(const char* text) {
  [[maybe_unused]] const ssize_t wrote = ::write(STDERR_FILENO, text, std::strlen(text));
}

// Memory freed at the end, because removing folders needs some.
void* reserve = nullptr;

[[noreturn]] void end_out_of_memory() {
  std::free(std::exchange(reserve, nullptr));
  io::remove_unfinished();
  say("error[E304]: out of memory");
  say(kLessMemory);
  say("\n");
  std::_Exit(exit_code(ErrorKind::kResource));
}

[[noreturn]] void on_terminate() {
  try {
    if (const std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    end_out_of_memory();
  } catch (const Error& error) {
    if (error.code() == "E304") end_out_of_memory();
    say(error.what());
  } catch (const std::exception& error) {
    say(error.what());
  } catch (...) {
  }
  say("\nerror: internal: an exception where none may pass. Please report this\n");
  io::remove_unfinished();
  std::abort();
}

// True if the process has reached its limit on address space.
bool is_memory_used_up() {
  constexpr std::size_t kProbe = std::size_t{64} << 20;
  void* data = ::mmap(nullptr, kProbe, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return true;
  ::munmap(data, kProbe);
  return false;
}

void on_bad_access(int signal) {
  if (is_memory_used_up()) end_out_of_memory();
  ::signal(signal, SIG_DFL);  // raised again, it now ends the process as usual
}

bool is_address_space_limited() {
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
}

}  // namespace

void tell_out_of_memory_without_unwinding() {
  constexpr std::size_t kReserve = std::size_t{4} << 20;
  reserve = std::malloc(kReserve);
  std::set_terminate(on_terminate);
  if (is_address_space_limited()) ::signal(SIGSEGV, on_bad_access);
}

}  // namespace calque::cli
