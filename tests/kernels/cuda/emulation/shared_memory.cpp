#include "kernels/cuda/emulation/shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda/emulation/fiber.h"

namespace calque::emulation {
namespace {

constexpr std::size_t kMostStaticBytes = 48 << 10;
constexpr std::size_t kAlignment = 128;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kMargin = 0;
#else
constexpr std::size_t kMargin = 1024;  // keeps the alignment
#endif
constexpr unsigned char kMarginByte = 0xFF;

bool untouched(const unsigned char* margin) {
  return std::all_of(margin, margin + kMargin,
                     [](unsigned char byte) { return byte == kMarginByte; });
}

}  // namespace

SharedMemory::Array SharedMemory::make(std::size_t bytes) {
  const Unwatched quiet;
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes + 2 * kMargin) != 0) std::abort();
  std::memset(memory, kMarginByte, bytes + 2 * kMargin);
  return {static_cast<unsigned char*>(memory) + kMargin, bytes};
}

bool SharedMemory::discard(Array& array) {
  if (array.memory == nullptr) return true;
  const Unwatched quiet;
  auto* const begin = static_cast<unsigned char*>(array.memory);
  const bool intact = untouched(begin - kMargin) && untouched(begin + array.bytes);
  std::free(begin - kMargin);
  array = {};
  return intact;
}

void SharedMemory::start(std::size_t dynamic_bytes) {
  static_bytes_ = 0;
  if (dynamic_bytes > 0) dynamic_ = make(dynamic_bytes);
}

void* SharedMemory::array(int index, std::size_t bytes) {
  const auto slot = static_cast<std::size_t>(index);
  if (slot >= arrays_.size()) arrays_.resize(slot + 1);
  if (arrays_[slot].memory == nullptr) {
    static_bytes_ += bytes;
    if (static_bytes_ > kMostStaticBytes) return nullptr;
    arrays_[slot] = make(bytes);
  }
  return arrays_[slot].memory;
}

bool SharedMemory::finish() {
  bool intact = discard(dynamic_);
  for (Array& array : arrays_) intact &= discard(array);
  return intact;
}

}  // namespace calque::emulation
