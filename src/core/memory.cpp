#include "calque/core/memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "calque/core/error.h"

namespace calque {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t rounded_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

void prefer_huge_pages(void* memory, std::size_t bytes) noexcept {
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a system without them goes on with small ones
}

void* allocate_array(std::size_t bytes) {
  const bool large = bytes >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kAlignment;
  void* memory = std::aligned_alloc(alignment, rounded_up(bytes, kAlignment));
  if (memory == nullptr) throw_out_of_memory(bytes);
  if (large) prefer_huge_pages(memory, bytes);
  return memory;
}

void free_array(void* memory) noexcept { std::free(memory); }

}  // namespace calque
