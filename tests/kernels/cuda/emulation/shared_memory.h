#pragma once

#include <cstddef>
#include <vector>

namespace calque::emulation {

// The shared arrays of the block that runs. Without AddressSanitizer, which sees overruns itself, a
// margin around each array is checked when the block ends.
class SharedMemory {
 public:
  void start(std::size_t dynamic_bytes);
  // Made when a thread of the block first asks. Null where a block has no room for it.
  void* array(int index, std::size_t bytes);
  void* dynamic() { return dynamic_.memory; }
  // False if a margin was written to.
  bool finish();

 private:
  struct Array {
    void* memory = nullptr;
    std::size_t bytes = 0;
  };
  static Array make(std::size_t bytes);
  static bool discard(Array& array);

  std::vector<Array> arrays_;
  Array dynamic_;
  std::size_t static_bytes_ = 0;
};

}  // namespace calque::emulation
