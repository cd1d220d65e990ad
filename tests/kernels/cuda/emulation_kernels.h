#pragma once

#include <vector>

namespace calque::emulation_test {

// The faults of a kernel that sums numbers.
enum class Bug {
  kNone,
  kNoBarrier,         // partial sums are read before every warp has written its own
  kDivergentBarrier,  // two halves of a block wait at different barriers
  kSkippedBarrier,    // one thread never arrives at a barrier that is in a loop
  kOverrun,           // writes one element beyond a shared array
  kUninitialized,     // reads shared elements that nobody wrote
  kExitedLane,        // a shuffle's mask names lanes that have returned
  kWrongMask,         // lanes bring different masks
  kNoWarpBarrier,     // lanes of a warp exchange through shared memory without __syncwarp
};

// The sum of up to 256 numbers, by a block of 256 threads.
float sum(const std::vector<float>& values, Bug bug);

// The same through dynamic shared memory, of which the launch asks for `bytes`.
float sum_in_dynamic_memory(const std::vector<float>& values, std::size_t bytes, bool ask_first);

}  // namespace calque::emulation_test
