#include "calque/core/parallel.h"

#include <sched.h>
#include <tbb/blocked_range.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "calque/core/openmp.h"

namespace calque {
namespace {

// Once in a process that gets them.
void expect_threads() {
  static const bool started = (check_that_threads_start(), true);
  static_cast<void>(started);
}

}  // namespace

struct Workers::Arena {
  // TBB complains on stderr when asked for more threads than processors.
  explicit Arena(int threads)
      : tasks(std::min(threads > 0 ? threads : available_threads(),
                       tbb::info::default_concurrency())) {}
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
  if (arena_->tasks.max_concurrency() == 1 || count <= 1)
    return run(tbb::blocked_range<Index>(0, count));
  expect_threads();
  // One index a task: bodies are coarse and unequal.
  arena_->tasks.execute([&] {
    tbb::parallel_for(tbb::blocked_range<Index>(0, count, 1), run, tbb::simple_partitioner());
  });
}

void parallel_for(Index count, int threads, const std::function<void(Index)>& body) {
  Workers(threads).for_each(count, body);
}

int available_threads() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  return std::max(1, CPU_COUNT(&allowed));
}

int usable_threads(int threads) {
  return threads > 0 ? std::min(threads, available_threads()) : available_threads();
}

void check_that_threads_start() {
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i)
    threads.emplace_back([](const std::stop_token& stop) {
      while (!stop.stop_requested()) std::this_thread::sleep_for(std::chrono::microseconds(100));
    });
}

}  // namespace calque
