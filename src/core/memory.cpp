#include "calque/core/memory.h"

#include <sys/mman.h>

#include <cstdlib>

#include "calque/core/error.h"

namespace calque {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

void prefer_huge_pages(void* memory, std::size_t bytes) noexcept {
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a system without them goes on with small ones
}

void* allocate_array(std::size_t bytes) {
  const bool large = bytes >= kHugePage;
  const std::size_t alignment = large ? kHugePage : kAlignment;
  void* memory = nullptr;  // aligned_alloc wants sizes that are multiples of the alignment
  if (::posix_memalign(&memory, alignment, bytes) != 0) throw_out_of_memory(bytes);
  if (large) prefer_huge_pages(memory, bytes);
  return memory;
}

void free_array(void* memory) noexcept { std::free(memory); }

}  // namespace calque
