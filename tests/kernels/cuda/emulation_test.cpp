#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <optional>
#include <string>

#include "calque/core/error.h"
#include "kernels/cuda/emulation_kernels.h"

// That the emulation notices what is wrong with a kernel: without that, its green tests say
// nothing.

namespace calque::emulation_test {
namespace {

// Under ThreadSanitizer a race ends the process with 66 at its exit, with AddressSanitizer an
// overrun ends it at once.
#if defined(__SANITIZE_THREAD__)
constexpr bool kSeesRaces = true;
#else
constexpr bool kSeesRaces = false;
#endif

class WarpOrder {
 public:
  explicit WarpOrder(const char* order) {
    if (const char* before = std::getenv(kName)) before_ = before;
    setenv(kName, order, 1);
  }
  ~WarpOrder() {
    if (before_)
      setenv(kName, before_->c_str(), 1);
    else
      unsetenv(kName);
  }
  WarpOrder(const WarpOrder&) = delete;
  WarpOrder& operator=(const WarpOrder&) = delete;

 private:
  static constexpr const char* kName = "CALQUE_EMULATION_ORDER";
  std::optional<std::string> before_;
};

// 1 + 2 + ... : whole numbers, so any order of summing is exact.
std::vector<float> numbers(int count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 1.0f);
  return values;
}
constexpr float kSumTo203 = 203 * 204 / 2;

bool right_in_every_order(Bug bug) {
  bool right = true;
  for (const char* name : {"forward", "reverse", "1", "7"}) {
    const WarpOrder order(name);
    right &= sum(numbers(203), bug) == kSumTo203;
  }
  return right;
}

TEST(Emulation, RunsAKernelInEveryOrder) { EXPECT_TRUE(right_in_every_order(Bug::kNone)); }

TEST(EmulationDeathTest, AMissingBarrierShows) {
  if (kSeesRaces)
    EXPECT_EXIT((sum(numbers(203), Bug::kNoBarrier), std::exit(0)), ::testing::ExitedWithCode(66),
                "data race");
  else
    EXPECT_FALSE(right_in_every_order(Bug::kNoBarrier));
}

// Lanes of a warp run one after another here, so only ThreadSanitizer can tell.
TEST(EmulationDeathTest, AMissingWarpBarrierShowsUnderThreadSanitizer) {
  if (!kSeesRaces) GTEST_SKIP() << "built without ThreadSanitizer";
  EXPECT_EXIT((sum(numbers(203), Bug::kNoWarpBarrier), std::exit(0)), ::testing::ExitedWithCode(66),
              "data race");
}

TEST(EmulationDeathTest, ADivergentBarrierEndsTheProcess) {
  EXPECT_DEATH(sum(numbers(203), Bug::kDivergentBarrier), "threads wait at different barriers");
}

TEST(EmulationDeathTest, ABarrierThatAThreadSkipsEndsTheProcess) {
  EXPECT_DEATH(sum(numbers(203), Bug::kSkippedBarrier), "CUDA emulation: ");
}

TEST(EmulationDeathTest, AnOverrunOfASharedArrayEndsTheProcess) {
  EXPECT_DEATH(sum(numbers(203), Bug::kOverrun), "beyond a shared array|heap-buffer-overflow");
}

TEST(Emulation, SharedMemoryThatNobodyWroteIsNotANumber) {
  EXPECT_TRUE(std::isnan(sum(numbers(203), Bug::kUninitialized)));
  EXPECT_EQ(sum(numbers(256), Bug::kUninitialized), 256 * 257 / 2);
}

TEST(EmulationDeathTest, AShuffleWithALaneThatHasLeftEndsTheProcess) {
  EXPECT_DEATH(sum(numbers(203), Bug::kExitedLane), "names a lane that has exited");
}

TEST(EmulationDeathTest, LanesWithDifferentMasksEndTheProcess) {
  EXPECT_DEATH(sum(numbers(203), Bug::kWrongMask), "different masks|outside its mask");
}

TEST(Emulation, MoreThan48KiBOfDynamicSharedMemoryMustBeAskedFor) {
  EXPECT_EQ(sum_in_dynamic_memory(numbers(203), 48 << 10, false), kSumTo203);
  try {
    sum_in_dynamic_memory(numbers(203), 50 << 10, false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("launching a kernel: invalid configuration"));
  }
  EXPECT_EQ(sum_in_dynamic_memory(numbers(203), 50 << 10, true), kSumTo203);
}

}  // namespace
}  // namespace calque::emulation_test
