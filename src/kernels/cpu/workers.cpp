#include "kernels/cpu/workers.h"

#include <tbb/blocked_range.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>

// The OpenMP runtime that oneDNN uses (libgomp); declared here because its header comes with g++
// only.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int);
}

namespace calque::cpu {
namespace {

// oneDNN starts an OpenMP team of its own inside every call unless the calling thread asks for one
// thread. The caller's setting comes back afterwards: LibTorch uses the same OpenMP.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOpenMpThread() { omp_set_num_threads(before_); }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  int before_;
};

}  // namespace

struct Workers::Arena {
  // TBB has no more threads than processors, and complains on stderr when asked for more.
  explicit Arena(int threads) : tasks(std::min(threads, tbb::info::default_concurrency())) {}
  tbb::task_arena tasks;
};

Workers::Workers(int threads) : arena_(std::make_unique<Arena>(threads)) {}
Workers::~Workers() = default;
Workers::Workers(Workers&&) noexcept = default;

void Workers::for_each(Index count, const std::function<void(Index)>& body) const {
  const auto run = [&body](const tbb::blocked_range<Index>& range) {
    const OneOpenMpThread guard;
    for (Index i = range.begin(); i < range.end(); ++i) body(i);
  };
  // One index a task: bodies are coarse and unequal.
  arena_->tasks.execute([&] {
    tbb::parallel_for(tbb::blocked_range<Index>(0, count, 1), run, tbb::simple_partitioner());
  });
}

}  // namespace calque::cpu
