#pragma once

#include <mutex>
#include <string>

namespace calque::resume {

// What a run has saved and how to go on from there, as a sentence for whatever ends the process:
// "Blocks 0-37 are saved: calque resume runs/a1"; "": nothing. Safe from any thread.
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
