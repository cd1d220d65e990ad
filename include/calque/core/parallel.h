#pragma once

#include <functional>

#include "calque/core/matrix.h"

namespace calque {

// Calls body(i) for every i in [0, count), on at most `threads` threads (0: all the process may
// use), in no particular order. The first exception that leaves a body is rethrown here after the
// other workers have stopped. The caller makes each body write only what is its own, so results do
// not depend on `threads`. For coarse work outside the kernels (a sequence, a tensor); kernels use
// TBB.
void parallel_for(Index count, int threads, const std::function<void(Index)>& body);

// Processors this process may run on (its affinity mask), at least 1.
int available_threads();

}  // namespace calque
