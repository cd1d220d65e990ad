#pragma once

#include <chrono>

namespace calque {

// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Adds the time until its end of life to `total`.
class TimedScope {
 public:
  explicit TimedScope(double& total) : total_(total) {}
  TimedScope(const TimedScope&) = delete;
  TimedScope& operator=(const TimedScope&) = delete;
  ~TimedScope() { total_ += watch_.seconds(); }

 private:
  double& total_;
  Stopwatch watch_;
};

}  // namespace calque
