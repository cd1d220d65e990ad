#include "calque/resume/saved_run.h"

#include <mutex>

namespace calque::resume {
namespace {

// A signal ends the process, not a job, so this is a fact about the process.
struct Saved {
  std::mutex mutex;
  std::string sentence;
};

Saved& saved() {
  static Saved instance;
  return instance;
}

}  // namespace

std::string saved_run() {
  const std::lock_guard lock(saved().mutex);
  return saved().sentence;
}

void set_saved_run(const std::string& sentence) {
  const std::lock_guard lock(saved().mutex);
  saved().sentence = sentence;
}

}  // namespace calque::resume
