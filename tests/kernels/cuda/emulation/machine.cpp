#include "kernels/cuda/emulation/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "kernels/cuda/emulation/block.h"

namespace calque::emulation {
namespace {

constexpr std::size_t kMostThreads = 1024;
constexpr std::size_t kUsualDynamicBytes = 48 << 10;
constexpr std::size_t kMostDynamicBytes = 163 << 10;  // compute capability 8.0; 9.0 has 227 KiB

const char* words_for(State state) {
  switch (state) {
    case State::kReady:
      return "runs";
    case State::kAtBarrier:
      return "waits at __syncthreads";
    case State::kAtWarpOperation:
      return "waits at a warp operation";
    case State::kExited:
      return "has exited";
  }
  return "";
}

void describe(const Machine& m) {
  int shown = 0;
  for (unsigned i = 0; i < m.count && shown < 8; ++i) {
    const Thread& thread = m.threads[i];
    const Thread& before = m.threads[i == 0 ? 0 : i - 1];
    if (i > 0 && thread.state == before.state && same(thread.place, before.place)) continue;
    ++shown;
    std::fprintf(stderr, "  thread %u on: %s, %s:%d, mask %08x\n", i, words_for(thread.state),
                 thread.place.file, thread.place.line, thread.mask);
  }
}

// Every fiber does this: the kernel's body once for each block that it is resumed for.
void run_thread() {
  Machine& m = machine();
  for (;;) {
    acquire_from(&m.start_token);
    (*m.body)();
    release_to(&m.end_token);
    leave(m, *m.current);
    m.current->fiber->yield();
  }
}

bool launchable(const Machine& m, const void* kernel, dim3 grid, dim3 block,
                std::size_t shared_bytes) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || threads % kWarp != 0 || block.z > 64) return false;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return false;
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return false;
  const auto allowed = m.allowed_dynamic.find(kernel);
  return shared_bytes <=
         (allowed == m.allowed_dynamic.end() ? kUsualDynamicBytes : allowed->second);
}

void prepare_threads(Machine& m, dim3 block) {
  while (m.threads.size() < kMostThreads) m.threads.emplace_back();
  for (unsigned i = 0; i < m.count; ++i) {
    Thread& thread = m.threads[i];
    if (thread.fiber == nullptr) thread.fiber = std::make_unique<Fiber>(&run_thread);
    thread.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
}

// One warp runs until every lane waits at the barrier, for lanes of other warps, or is done.
void run_warp(Machine& m, unsigned warp) {
  for (bool again = true; again;) {
    again = false;
    const unsigned start = m.order.is_random() ? m.order.pick(0, kWarp) : 0;
    for (unsigned i = 0; i < kWarp; ++i) {
      const unsigned turn = m.order.is_random() ? (i + start) % kWarp : m.order.pick(i, kWarp);
      Thread& thread = m.threads[warp * kWarp + turn];
      if (thread.state != State::kReady) continue;
      m.current = &thread;
      thread.fiber->resume();
      again = true;
    }
  }
}

bool any_ready(const Machine& m) {
  return std::any_of(m.threads.begin(), m.threads.begin() + m.count,
                     [](const Thread& thread) { return thread.state == State::kReady; });
}

void run_block(Machine& m, uint3 index, std::size_t shared_bytes) {
  m.block_index = index;
  m.living = m.count;
  m.waiting = 0;
  m.shared.start(shared_bytes);
  for (unsigned i = 0; i < m.count; ++i) {
    m.threads[i].state = State::kReady;
    m.threads[i].place = {"", 0};
    m.threads[i].warp_syncs = 0;
  }
  const unsigned warps = m.count / kWarp;
  while (m.living > 0) {
    if (!any_ready(m)) refuse("no thread can go on");
    for (unsigned turn = 0; turn < warps; ++turn) run_warp(m, m.order.pick(turn, warps));
  }
  if (!m.shared.finish()) refuse("something was written beyond a shared array");
}

}  // namespace

Machine& machine() {
  static Machine instance;
  return instance;
}

void refuse(const char* what) {
  const Machine& m = machine();
  std::fprintf(stderr, "CUDA emulation: %s (block %u, %u, %u)\n", what, m.block_index.x,
               m.block_index.y, m.block_index.z);
  describe(m);
  std::abort();
}

cudaError_t run(const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                const std::function<void()>& body) {
  Machine& m = machine();
  const std::lock_guard lock(m.launching);
  if (!launchable(m, kernel, grid, block, shared_bytes)) return cudaErrorInvalidConfiguration;
  m.grid = grid;
  m.block = block;
  m.count = block.x * block.y * block.z;
  m.body = &body;
  m.order = Order::from_environment();
  Fiber::adopt_scheduler();
  prepare_threads(m, block);
  release_to(&m.start_token);
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) run_block(m, {x, y, z}, shared_bytes);
  acquire_from(&m.end_token);
  return cudaSuccess;
}

cudaError_t allow_dynamic_shared(const void* kernel, std::size_t bytes) {
  if (bytes > kMostDynamicBytes) return cudaErrorInvalidValue;
  Machine& m = machine();
  const std::lock_guard lock(m.launching);
  m.allowed_dynamic[kernel] = bytes;
  return cudaSuccess;
}

uint3 thread_index() { return machine().current->index; }
uint3 block_index() { return machine().block_index; }
dim3 block_size() { return machine().block; }
dim3 grid_size() { return machine().grid; }

int new_shared_array() {
  static int arrays = 0;
  return arrays++;
}

void* shared_array(int array, std::size_t bytes) {
  void* const memory = machine().shared.array(array, bytes);
  if (memory == nullptr) refuse("more than 48 KiB of static shared memory");
  return memory;
}

void* dynamic_shared_memory() { return machine().shared.dynamic(); }

}  // namespace calque::emulation
