#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace calque::pipeline {

// Measures the peak resident memory of each stage with the kernel's high-water mark, which is reset
// whenever the stage changes. If the kernel does not allow that (/proc/self/clear_refs), only the
// whole job's peak is known. getrusage() and time(1) then report the last stage's peak for the
// process, not the largest one.
class MemoryMeter {
 public:
  MemoryMeter();

  // While it lives, measurements belong to `stage`; afterwards to the previous stage again.
  class Scope {
   public:
    Scope(MemoryMeter& meter, std::string stage);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    MemoryMeter& meter_;
    std::string before_;
  };

  // Bytes by stage; empty if stages cannot be told apart.
  std::map<std::string, std::uint64_t> stages();
  std::uint64_t peak_bytes();

 private:
  void read();
  void enter(std::string stage);

  bool resets_ = false;
  std::string stage_;  // "": none
  std::map<std::string, std::uint64_t> peaks_;
};

}  // namespace calque::pipeline
