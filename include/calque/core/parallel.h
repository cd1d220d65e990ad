#pragma once

#include <functional>
#include <memory>

#include "calque/core/matrix.h"

namespace calque {

// A number of threads for loops over independent parts. One pool of threads (TBB's) serves every
// object, and starts with the first loop that needs it.
class Workers {
 public:
  // 0: all that the process may use. There are never more than processors.
  explicit Workers(int threads);
  ~Workers();
  Workers(Workers&&) noexcept;

  // Calls body(i) for every i in [0, count), in no particular order. The caller makes each body
  // write only what is its own, so results do not depend on the number of threads. Libraries that
  // a body calls (oneDNN) run on the calling thread only. After a body has thrown, no further ones
  // are started, and one of the exceptions leaves this function. Safe to call from several threads
  // and from a body. std::system_error if the threads of the pool cannot be started.
  void for_each(Index count, const std::function<void(Index)>& body) const;

 private:
  struct Arena;
  std::unique_ptr<Arena> arena_;
};

// Workers(threads).for_each(count, body).
void parallel_for(Index count, int threads, const std::function<void(Index)>& body);

// Processors this process may run on (its affinity mask), at least 1.
int available_threads();

// Threads that do the work where `threads` are asked for, 0 for all.
int usable_threads(int threads);

// Starts as many threads as there are processors, and ends them: std::system_error where there is
// no memory for their stacks. A library that is about to make a pool would wait for such threads
// for ever (LibTorch 1.13) or end the process.
void check_that_threads_start();

}  // namespace calque
