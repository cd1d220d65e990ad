#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

// A GPU that runs kernels on the CPU: one block after another, one fiber a thread, no two at once.
// The parts that a kernel's source needs have CUDA's names in emulation.h.
//
// Breaches of CUDA's rules end the process with a message that names block, threads and lines:
// a barrier that not all threads reach, a warp operation whose mask names a lane that left or waits
// elsewhere, an overrun of a shared array, more shared memory than a block can have.
//
// CALQUE_EMULATION_ORDER = forward (default), reverse or a number: which warp, and which lane in
// it, runs first. A warp runs as far ahead of the others as it may, so that a missing barrier
// shows.

namespace calque::emulation {

struct Place {
  const char* file;
  int line;
};

// Runs `body` once for every thread of the grid. cudaErrorInvalidConfiguration for a launch that a
// GPU would refuse, or whose block is not whole warps.
cudaError_t run(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                const std::function<void()>& body);
cudaError_t allow_dynamic_shared(const void* kernel, std::size_t bytes);

// The rest is called by kernels.
uint3 thread_index();
uint3 block_index();
dim3 block_size();
dim3 grid_size();

void sync_block(Place place);
void sync_warp(unsigned mask, Place place);
// All lanes in `mask` meet; each then has what lane `source` of the warp brought.
std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, Place place);
// ... has a bit for each lane that brought true.
unsigned ballot(unsigned mask, bool value, Place place);
int lane();
[[noreturn]] void refuse(const char* what);

// Shared arrays are separate heap blocks filled with 0xFF (NaN, -1), one for each array and block
// of threads: reads of what nobody wrote and overruns show.
int new_shared_array();
void* shared_array(int array, std::size_t bytes);
void* dynamic_shared_memory();

}  // namespace calque::emulation
