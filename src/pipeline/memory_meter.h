#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace calque::pipeline {

// The resident memory that stages take at most, from the kernel's high-water mark, which is put
// back to the present whenever the stage changes. Where the kernel does not allow that
// (/proc/self/clear_refs), only the whole job's peak is known. What getrusage() and time(1) say of
// the process afterwards is the last stage's peak, not the largest one.
class MemoryMeter {
 public:
  MemoryMeter();

  // Until it ends, what is measured is `stage`'s; then that of the stage before again.
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
