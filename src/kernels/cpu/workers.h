#pragma once

#include <functional>
#include <memory>

#include "calque/core/matrix.h"

namespace calque::cpu {

// A fixed number of threads (at most one a processor) for the loops of the kernels.
class Workers {
 public:
  explicit Workers(int threads);
  ~Workers();
  Workers(Workers&&) noexcept;

  // body(i) for every i in [0, count), in no particular order. Each body
  // writes only what is its own, so results do not depend on the number of threads. Libraries that
  // a body calls (oneDNN) run on the calling thread only. Safe to call from several threads.
  void for_each(Index count, const std::function<void(Index)>& body) const;

 private:
  struct Arena;
  std::unique_ptr<Arena> arena_;
};

}  // namespace calque::cpu
