#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/emulation/fiber.h"
#include "kernels/cuda/emulation/machine.h"
#include "kernels/cuda/emulation/order.h"
#include "kernels/cuda/emulation/shared_memory.h"

// The emulation's own state: machine.cpp runs blocks, synchronization.cpp lets their threads meet.

namespace calque::emulation {

constexpr unsigned kWarp = 32;

enum class State { kReady, kAtBarrier, kAtWarpOperation, kExited };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index{};
  State state = State::kExited;
  Place place{"", 0};  // it waits there
  unsigned mask = 0;   // it brought this to a warp operation, or takes it away
  std::uint64_t value = 0;
  int source = 0;
  std::uint64_t result = 0;
  unsigned warp_syncs = 0;
  char tokens[2]{};  // its warp barriers', in turn
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

Machine& machine();

inline bool same(Place a, Place b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

// The thread has come to the end of the kernel.
void leave(Machine& m, Thread& thread);

}  // namespace calque::emulation
