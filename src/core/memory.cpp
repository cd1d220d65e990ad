#include "calque/core/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>

#include "calque/core/error.h"
#include "calque/core/kept_arrays.h"

namespace calque {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Stands before an array and fills a cache line, which aligns the array.
struct alignas(64) Header {
  std::size_t bytes;  // that the array has
  bool mapped;        // else from the heap
};
Header& header_of(void* array) { return static_cast<Header*>(array)[-1]; }

// The bytes of a header and an array, up to a multiple of the alignment.
std::size_t whole_lines(std::size_t bytes) {
  return (2 * sizeof(Header) + bytes - 1) / sizeof(Header) * sizeof(Header);
}

// Memory of its own for an array and its header, at a huge page's boundary; null if there is none.
void* map(std::size_t bytes) noexcept {
  const std::size_t wanted = sizeof(Header) + bytes;
  void* const whole = ::mmap(nullptr, wanted + kHugePage, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (whole == MAP_FAILED) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(whole);
  const std::uintptr_t begin = (address + kHugePage - 1) / kHugePage * kHugePage;
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t end = begin + (wanted + page - 1) / page * page;
  if (begin > address) ::munmap(whole, begin - address);
  if (address + wanted + kHugePage > end)
    ::munmap(reinterpret_cast<void*>(end), address + wanted + kHugePage - end);
  return reinterpret_cast<void*>(begin);
}

// AddressSanitizer finds a freed array that is still read, if the heap has it.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kHeapAlone = true;
#else
constexpr bool kHeapAlone = false;
#endif

// Null if there is no memory.
void* make_array(std::size_t bytes) noexcept {
  const bool mapped = !kHeapAlone && bytes >= kSmallestKeptArray;
  void* const memory = mapped ? map(bytes) : std::aligned_alloc(sizeof(Header), whole_lines(bytes));
  if (memory == nullptr) return nullptr;
  if (bytes >= kHugePage) prefer_huge_pages(memory, sizeof(Header) + bytes);
  return new (memory) Header{bytes, mapped} + 1;
}

void destroy_array(void* array) noexcept {
  Header& header = header_of(array);
  if (header.mapped)
    ::munmap(&header, sizeof(Header) + header.bytes);
  else
    std::free(&header);
}

// Freed arrays that wait for the next of about their size, the oldest first.
class FreedArrays {
 public:
  // An array of `bytes` to an eighth more, the smallest there is; null if there is none.
  void* take(std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    std::size_t best = count_;
    for (std::size_t i = 0; i < count_; ++i)
      if (size(i) >= bytes && size(i) <= bytes + bytes / 8 &&
          (best == count_ || size(i) < size(best)))
        best = i;
    return best == count_ ? nullptr : remove(best);
  }

  // Destroys the oldest until this one fits.
  void give(void* array) noexcept {
    const std::lock_guard lock(mutex_);
    const std::size_t bytes = header_of(array).bytes;
    while (kept_bytes_ + bytes > kKeptArrayBytes) destroy_array(remove(0));
    arrays_[count_++] = array;
    kept_bytes_ += bytes;
  }

  void clear() noexcept {
    const std::lock_guard lock(mutex_);
    while (count_ > 0) destroy_array(remove(0));
  }

 private:
  std::size_t size(std::size_t place) const { return header_of(arrays_[place]).bytes; }

  void* remove(std::size_t place) noexcept {
    void* const removed = arrays_[place];
    std::copy(arrays_.begin() + place + 1, arrays_.begin() + count_, arrays_.begin() + place);
    --count_;
    kept_bytes_ -= header_of(removed).bytes;
    return removed;
  }

  std::mutex mutex_;
  std::array<void*, kKeptArrayBytes / kSmallestKeptArray> arrays_{};
  std::size_t count_ = 0;
  std::size_t kept_bytes_ = 0;
};

// Not destroyed: statics of other files may free arrays after this one's end.
FreedArrays& freed_arrays() {
  static FreedArrays& arrays = *new FreedArrays;
  return arrays;
}

bool is_kept(std::size_t bytes) {
  return !kHeapAlone && bytes >= kSmallestKeptArray && bytes <= kKeptArrayBytes / 2;
}

}  // namespace

void prefer_huge_pages(void* memory, std::size_t bytes) noexcept {
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a system without them goes on with small ones
}

void* allocate_array(std::size_t bytes) {
  void* array = is_kept(bytes) ? freed_arrays().take(bytes) : nullptr;
  if (array == nullptr) array = make_array(bytes);
  if (array == nullptr) {
    freed_arrays().clear();
    array = make_array(bytes);
  }
  if (array == nullptr) throw_out_of_memory(bytes);
  return array;
}

void free_array(void* array) noexcept {
  if (array == nullptr) return;
  if (is_kept(header_of(array).bytes))
    freed_arrays().give(array);
  else
    destroy_array(array);
}

}  // namespace calque
