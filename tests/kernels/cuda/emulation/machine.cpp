#include "kernels/cuda/emulation/machine.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/cuda/emulation/fiber.h"
#include "kernels/cuda/emulation/shared_memory.h"

namespace calque::emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr std::size_t kMostThreads = 1024;
constexpr std::size_t kUsualDynamicBytes = 48 << 10;
constexpr std::size_t kMostDynamicBytes = 163 << 10;  // compute capability 8.0; 9.0 has 227 KiB

enum class State { kReady, kAtBarrier, kAtWarpOperation, kExited };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index{};
  State state = State::kExited;
  Place place{"", 0};  // where it waits
  unsigned mask = 0;   // what it brought to a warp operation, and what it takes away
  std::uint64_t value = 0;
  int source = 0;
  std::uint64_t result = 0;
  unsigned warp_syncs = 0;
  char tokens[2]{};  // of its warp barriers, in turn
};

// Which warp and lane runs first.
class Order {
 public:
  static Order from_environment() {
    const char* const name = std::getenv("CALQUE_EMULATION_ORDER");
    Order order;
    if (name == nullptr || std::strcmp(name, "forward") == 0) return order;
    order.reverse_ = std::strcmp(name, "reverse") == 0;
    if (!order.reverse_) order.seed_ = std::strtoull(name, nullptr, 10) * 2654435761u + 1;
    return order;
  }
  // The i-th of `count` to get its turn in a round; random orders leave some out of a round.
  unsigned pick(unsigned i, unsigned count) {
    if (seed_ != 0) return static_cast<unsigned>(next() % count);
    return reverse_ ? count - 1 - i : i;
  }
  bool is_random() const { return seed_ != 0; }

 private:
  std::uint64_t next() {  // xorshift64
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    return seed_ ^= seed_ << 17;
  }
  bool reverse_ = false;
  std::uint64_t seed_ = 0;
};

struct Machine {
  std::mutex launching;
  std::map<const void*, std::size_t> allowed_dynamic;
  std::vector<Thread> threads;  // made once, reused
  SharedMemory shared;

  dim3 grid, block;
  uint3 block_index{};
  unsigned count = 0;    // threads in a block
  unsigned living = 0;   // have not exited
  unsigned waiting = 0;  // at the barrier
  Thread* current = nullptr;
  const std::function<void()>* body = nullptr;
  Order order;
  unsigned barriers = 0;
  char start_token = 0, end_token = 0, barrier_tokens[2]{};
};

Machine& machine() {
  static Machine instance;
  return instance;
}

bool same(Place a, Place b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

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

void release_barrier(Machine& m) {
  const Thread* first = nullptr;
  for (unsigned i = 0; i < m.count; ++i) {
    Thread& thread = m.threads[i];
    if (thread.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &thread;
    if (!same(thread.place, first->place)) refuse("threads wait at different barriers");
    thread.state = State::kReady;
  }
  m.waiting = 0;
  ++m.barriers;
}

void wait(Machine& m, State state, Place place) {
  m.current->state = state;
  m.current->place = place;
}

Thread* warp_of(Machine& m, const Thread& thread) {
  const auto index = static_cast<unsigned>(&thread - m.threads.data());
  return &m.threads[index / kWarp * kWarp];
}

int lane_of(const Machine& m, const Thread& thread) {
  return static_cast<int>((&thread - m.threads.data()) % kWarp);
}

// The lanes of `mask` that have arrived where the current thread is.
unsigned arrived(const Machine& m, const Thread* warp) {
  const Thread& self = *m.current;
  unsigned lanes = 0;
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((self.mask >> i & 1) == 0) continue;
    const Thread& other = warp[i];
    if (other.state == State::kExited) refuse("the mask names a lane that has exited");
    if (other.state != State::kAtWarpOperation) continue;
    if (other.mask != self.mask) refuse("lanes bring different masks to a warp operation");
    if (!same(other.place, self.place)) refuse("lanes of a mask are at different warp operations");
    lanes |= 1u << i;
  }
  return lanes;
}

constexpr int kBallot = -1;

// All lanes of the mask meet; the last to arrive hands out the results.
std::uint64_t meet(unsigned mask, std::uint64_t value, int source, Place place) {
  Machine& m = machine();
  Thread& self = *m.current;
  Thread* const warp = warp_of(m, self);
  wait(m, State::kAtWarpOperation, place);
  self.mask = mask;
  self.value = value;
  self.source = source;
  if ((mask >> lane_of(m, self) & 1) == 0) refuse("a lane is not in the mask that it brings");
  if (arrived(m, warp) == mask) {
    std::uint64_t bits = 0;
    for (unsigned i = 0; i < kWarp; ++i)
      if ((mask >> i & 1) != 0 && warp[i].value != 0) bits |= std::uint64_t{1} << i;
    for (unsigned i = 0; i < kWarp; ++i) {
      if ((mask >> i & 1) == 0) continue;
      warp[i].result = warp[i].source == kBallot ? bits : warp[warp[i].source].value;
      warp[i].state = State::kReady;
    }
  }
  self.fiber->yield();
  return self.result;
}

void leave(Machine& m, Thread& thread) {
  thread.state = State::kExited;
  --m.living;
  const Thread* const warp = warp_of(m, thread);
  for (unsigned i = 0; i < kWarp; ++i)
    if (warp[i].state == State::kAtWarpOperation && (warp[i].mask >> lane_of(m, thread) & 1) != 0)
      refuse("the mask names a lane that has exited");
  if (m.living > 0 && m.waiting == m.living) release_barrier(m);
}

// What every fiber does: the kernel's body once for each block that it is resumed for.
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
bool run_warp(Machine& m, unsigned warp) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    const unsigned start = m.order.is_random() ? m.order.pick(0, kWarp) : 0;
    for (unsigned i = 0; i < kWarp; ++i) {
      const unsigned turn = m.order.is_random() ? (i + start) % kWarp : m.order.pick(i, kWarp);
      Thread& thread = m.threads[warp * kWarp + turn];
      if (thread.state != State::kReady) continue;
      m.current = &thread;
      thread.fiber->resume();
      any = again = true;
    }
  }
  return any;
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
int lane() { return lane_of(machine(), *machine().current); }

void sync_block(Place place) {
  Machine& m = machine();
  wait(m, State::kAtBarrier, place);
  // Two in turn: who wakes late must not take the next barrier's order for this one's.
  void* const token = &m.barrier_tokens[m.barriers & 1];
  release_to(token);
  if (++m.waiting == m.living) release_barrier(m);
  m.current->fiber->yield();
  acquire_from(token);
}

// Orders the memory accesses of exactly the lanes in the mask; shuffles and ballots order nothing.
void sync_warp(unsigned mask, Place place) {
  Machine& m = machine();
  Thread& self = *m.current;
  const Thread* const warp = warp_of(m, self);
  const unsigned turn = self.warp_syncs++ & 1;
  release_to(&self.tokens[turn]);
  const std::uint64_t turns = meet(mask, turn, kBallot, place);
  for (unsigned i = 0; i < kWarp; ++i)
    if ((mask >> i & 1) != 0) acquire_from(const_cast<char*>(&warp[i].tokens[turns >> i & 1]));
}

std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, Place place) {
  if ((mask >> source & 1) == 0) refuse("a shuffle reads a lane outside its mask");
  return meet(mask, value, source, place);
}

unsigned ballot(unsigned mask, bool value, Place place) {
  return static_cast<unsigned>(meet(mask, value ? 1 : 0, kBallot, place));
}

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
