#include "cli/interrupts.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <utility>

#include "calque/io/file.h"

namespace calque::cli {

void clean_up_when_interrupted(std::shared_ptr<const resume::SavedRun> saved) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A thread may do what a signal handler must not: take locks and walk folders.
  std::thread([signals, saved = std::move(saved)] {
    int received = 0;
    sigwait(&signals, &received);
    ::signal(SIGINT, SIG_DFL);
    ::signal(SIGTERM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    const std::string sentence = saved->sentence();
    io::remove_unfinished();
    fmt::print(stderr, "\ninterrupted; {}\n",
               sentence.empty() ? "nothing half-written was kept" : sentence);
    _exit(128 + received);
  }).detach();
}

}  // namespace calque::cli
