#pragma once

#include <mutex>
#include <string>

namespace calque::resume {

// One sentence on the saved state of a run and how to resume it, for code that ends the process:
// "Blocks 0-37 are saved: calque resume runs/a1"; "" if nothing is saved. Safe from any thread.
class SavedRun {
 public:
  std::string sentence() const {
    const std::lock_guard lock(mutex_);
    return sentence_;
  }
  void tell(std::string sentence) {
    const std::lock_guard lock(mutex_);
    sentence_ = std::move(sentence);
  }

 private:
  mutable std::mutex mutex_;
  std::string sentence_;
};

}  // namespace calque::resume
