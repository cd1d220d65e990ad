#include "calque/io/scratch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "calque/core/error.h"
#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Read from the kernel's record of the mapping: mincore would also count the page cache.
std::uint64_t resident_bytes(const ScratchArray& array) {
  const auto start = reinterpret_cast<std::uintptr_t>(array.data());
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t from = 0, to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
      inside = from <= start && start < to;
    unsigned long long kib = 0;
    if (inside && std::sscanf(line.c_str(), "Rss: %llu kB", &kib) == 1) return kib * 1024;
  }
  return 0;
}

std::byte value_at(std::uint64_t i) { return static_cast<std::byte>(i * 131 + (i >> 12)); }

void fill(const ScratchArray& array) {
  for (std::uint64_t i = 0; i < array.size(); ++i) array.data()[i] = value_at(i);
}

bool is_filled(const ScratchArray& array) {
  for (std::uint64_t i = 0; i < array.size(); ++i)
    if (array.data()[i] != value_at(i)) return false;
  return true;
}

TEST(Scratch, GoesToAFileBeyondTheBudget) {
  const testing::TempFolder folder;
  ScratchSpace space(1000, folder / "made/when/needed");
  const ScratchArray first = space.allocate(600);
  EXPECT_FALSE(std::filesystem::exists(folder / "made"));
  const ScratchArray second = space.allocate(401);  // one byte too many
  const ScratchArray third = space.allocate(400);   // exactly the rest
  EXPECT_FALSE(first.in_file());
  EXPECT_TRUE(second.in_file());
  EXPECT_FALSE(third.in_file());
  EXPECT_EQ(space.peak_ram_bytes(), 1000u);
  EXPECT_EQ(space.peak_file_bytes(), 401u);
}

TEST(Scratch, StaysInMemoryWithoutAFolder) {
  ScratchSpace space(0, {});
  const ScratchArray array = space.allocate(5000);
  EXPECT_FALSE(array.in_file());
  fill(array);
  EXPECT_TRUE(is_filled(array));
  EXPECT_EQ(space.peak_ram_bytes(), 5000u);
}

TEST(Scratch, WhatIsFreedCanBeHadAgain) {
  const testing::TempFolder folder;
  ScratchSpace space(1000, folder.path());
  ScratchArray array = space.allocate(1000);
  array = ScratchArray();
  array = space.allocate(900);
  EXPECT_FALSE(array.in_file());
  EXPECT_EQ(space.peak_ram_bytes(), 1000u);
  EXPECT_EQ(space.peak_file_bytes(), 0u);
}

TEST(Scratch, AnArrayMovesAndOutlivesItsSpace) {
  const testing::TempFolder folder;
  ScratchArray moved;
  {
    ScratchSpace space(0, folder.path());
    ScratchArray array = space.allocate(12345);
    fill(array);
    moved = std::move(array);
    EXPECT_EQ(array.data(), nullptr);
    EXPECT_EQ(array.size(), 0u);
  }
  EXPECT_TRUE(moved.in_file());
  EXPECT_TRUE(is_filled(moved));
}

TEST(Scratch, NothingIsNoArray) {
  ScratchSpace space(0, "/nowhere");
  const ScratchArray array = space.allocate(0);
  EXPECT_EQ(array.data(), nullptr);
  EXPECT_EQ(space.peak_file_bytes(), 0u);
}

TEST(Scratch, ItsFilesHaveNoNames) {
  const testing::TempFolder folder;
  ScratchSpace space(0, folder.path());
  const ScratchArray array = space.allocate(kMiB);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Scratch, ReleasedPagesLeaveMemoryAndComeBack) {
  const testing::TempFolder folder;
  ScratchSpace space(0, folder.path());
  const ScratchArray array = space.allocate(8 * kMiB);
  fill(array);
  EXPECT_EQ(resident_bytes(array), 8 * kMiB);
  array.release(2 * kMiB + 1, 3 * kMiB);  // all that it touches, up to 64 and 128 KiB more
  EXPECT_LT(resident_bytes(array), 5 * kMiB);
  EXPECT_GE(resident_bytes(array), 5 * kMiB - (std::uint64_t{192} << 10));
  array.release(0, array.size());
  EXPECT_EQ(resident_bytes(array), 0u);
  EXPECT_TRUE(is_filled(array));
}

TEST(Scratch, ReleaseLeavesAnArrayInMemoryAsItIs) {
  ScratchSpace space(2 * kMiB, {});
  const ScratchArray array = space.allocate(kMiB);
  fill(array);
  array.release(0, array.size());
  EXPECT_TRUE(is_filled(array));
}

// Neighbours share pages: 1000 bytes are a quarter of one.
TEST(Scratch, ReleaseNextToAWriterLosesNothing) {
  const testing::TempFolder folder;
  ScratchSpace space(0, folder.path());
  const ScratchArray array = space.allocate(4 * kMiB);
  std::vector<std::jthread> writers;
  for (std::uint64_t w = 0; w < 4; ++w)
    writers.emplace_back([&, w] {
      for (std::uint64_t first = w * 1000; first < array.size(); first += 4000) {
        const std::uint64_t count = std::min<std::uint64_t>(1000, array.size() - first);
        for (std::uint64_t i = first; i < first + count; ++i) array.data()[i] = value_at(i);
        array.release(first, count);
      }
    });
  writers.clear();
  EXPECT_TRUE(is_filled(array));
}

TEST(Scratch, AMatrixHasRowsWithoutGaps) {
  const testing::TempFolder folder;
  ScratchSpace space(0, folder.path());
  const ScratchMatrix<float> matrix(space, 7, 1031);
  for (Index r = 0; r < 7; ++r) {
    std::fill_n(matrix.view().row(r), 1031, static_cast<float>(r));
    matrix.release_rows(r, 1);
  }
  for (Index r = 0; r < 7; ++r) {
    EXPECT_EQ(matrix.view()(r, 0), static_cast<float>(r));
    EXPECT_EQ(matrix.view()(r, 1030), static_cast<float>(r));
  }
  EXPECT_EQ(space.peak_file_bytes(), 7u * 1031 * 4);
}

template <typename Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kResource);
    return "[" + error.code() + "] " + error.what();
  }
  return "no error";
}

TEST(Scratch, AFullDiskIsToldBeforeAnythingIsWritten) {
  const testing::TempFolder folder;
  ScratchSpace space(0, folder.path());
  const testing::FileSizeLimit limit(kMiB);
  const ScratchArray fits = space.allocate(kMiB);
  const std::string message = message_of([&] { space.allocate(kMiB + 1); });
  EXPECT_THAT(message, AllOf(HasSubstr("[E302] " + folder.path().string()),
                             HasSubstr("reserve space for activations"),
                             HasSubstr("1048577 bytes wanted, "), HasSubstr(" bytes free")));
  EXPECT_EQ(space.peak_file_bytes(), 2 * kMiB + 1);  // counted as wanted, and given back:
  const ScratchArray again = space.allocate(kMiB);
  EXPECT_EQ(space.peak_file_bytes(), 2 * kMiB + 1);
}

TEST(Scratch, AFolderThatCannotBeMadeIsNamed) {
  ScratchSpace space(0, "/proc/none/scratch");
  EXPECT_THAT(message_of([&] { space.allocate(1); }), HasSubstr("/proc/none/scratch"));
}

// More than any processor can address.
TEST(Scratch, MemoryThatCannotBeHadIsTold) {
  ScratchSpace space(0, {});
  EXPECT_THAT(message_of([&] { space.allocate(std::uint64_t{1} << 60); }),
              HasSubstr("[E304] out of memory: 1152921504606846976 bytes wanted"));
}

}  // namespace
}  // namespace calque::io
