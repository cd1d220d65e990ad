#include "cli/interrupts.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "calque/io/file.h"

namespace calque::cli {

void clean_up_when_interrupted() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A thread may do what a signal handler may not: take locks and walk folders.
  std::thread([signals] {
    int received = 0;
    sigwait(&signals, &received);
    io::remove_unfinished();
    fmt::print(stderr, "\ninterrupted; nothing half-written was kept\n");
    _exit(128 + received);
  }).detach();
}

}  // namespace calque::cli
