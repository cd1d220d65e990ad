#include "calque/core/memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calque/core/kept_arrays.h"

namespace calque {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

#ifndef __SANITIZE_ADDRESS__

TEST(AllocateArray, TakesUpAFreedArrayOfThatSize) {
  void* const first = allocate_array(3 * kMiB);
  free_array(first);
  void* const second = allocate_array(3 * kMiB - 100);
  EXPECT_EQ(second, first);
  free_array(second);
}

TEST(AllocateArray, LeavesAFreedArrayThatIsAQuarterTooLarge) {
  void* const first = allocate_array(5 * kMiB);
  free_array(first);
  void* const second = allocate_array(4 * kMiB);
  EXPECT_NE(second, first);
  free_array(second);
}

TEST(AllocateArray, KeepsTheLatestArraysUpToItsLimit) {
  constexpr std::size_t kFit = kKeptArrayBytes / (4 * kMiB);
  std::vector<void*> arrays;
  for (std::size_t i = 0; i < kFit + 4; ++i) arrays.push_back(allocate_array(4 * kMiB));
  for (void* const array : arrays) free_array(array);
  for (std::size_t i = 0; i < kFit; ++i) {
    void* const kept = allocate_array(4 * kMiB);
    EXPECT_EQ(kept, arrays[4 + i]);
    arrays.push_back(kept);
  }
  for (std::size_t i = kFit + 4; i < arrays.size(); ++i) free_array(arrays[i]);
}

#endif

TEST(AllocateArray, IsAlignedToACacheLineAtEverySize) {
  for (const std::size_t bytes :
       {std::size_t{1}, std::size_t{1000}, kSmallestKeptArray - 1, kSmallestKeptArray, 2 * kMiB - 1,
        2 * kMiB, kKeptArrayBytes + 1}) {
    void* const array = allocate_array(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array) % 64, 0u) << bytes;
    free_array(array);
  }
  free_array(nullptr);
}

}  // namespace
}  // namespace calque
