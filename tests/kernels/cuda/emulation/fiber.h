#pragma once

#include <cstddef>
#include <memory>

namespace calque::emulation {

// A stack of its own and a place on it to continue: one for each thread of an emulated block.
// The scheduler resumes a fiber, the fiber yields back to the scheduler; nothing runs in parallel.
// AddressSanitizer and ThreadSanitizer are told of every switch.
class Fiber {
 public:
  // `entry` never returns; it runs from the first resume().
  explicit Fiber(void (*entry)());
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();  // called by the scheduler; returns when the fiber yields
  void yield();   // called on the fiber; returns when it is resumed

  // The calling thread is the scheduler from now on.
  static void adopt_scheduler();

 private:
  struct State;
  static void enter();
  std::unique_ptr<State> state_;
};

// For ThreadSanitizer: what was done before release_to(token) happened before what is done after
// acquire_from(token). It sees no other order between fibers.
void release_to(void* token);
void acquire_from(void* token);

// Memory accesses in its scope are the emulation's own, not the kernel's.
class Unwatched {
 public:
  Unwatched();
  ~Unwatched();
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace calque::emulation
