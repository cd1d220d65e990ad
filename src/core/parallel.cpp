#include "calque/core/parallel.h"

#include <sched.h>
#include <tbb/blocked_range.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
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

// A loop whose bodies TBB calls. Everything before the loop happens before its bodies, and they
// before everything after it: TBB sees to that, but ThreadSanitizer cannot see it in a library that
// is not compiled for it. The order is written down once more here. There is none among the bodies,
// so races between them are seen.
class Loop {
 public:
  explicit Loop(const std::function<void(Index)>& body) : body_(body) {
    begun_.store(true, std::memory_order_release);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() { ended_.load(std::memory_order_acquire); }

  void run(Index first, Index last) {
    const Part part(*this);
    const OneOpenMpThread guard;
    for (Index i = first; i < last; ++i) body_(i);
  }

 private:
  // Ends also where a body throws.
  struct Part {
    explicit Part(Loop& whole) : loop(whole) { loop.begun_.load(std::memory_order_acquire); }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;
    ~Part() { loop.ended_.fetch_add(1, std::memory_order_release); }
    Loop& loop;
  };

  const std::function<void(Index)>& body_;
  std::atomic<bool> begun_ = false;
  std::atomic<Index> ended_ = 0;
};

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
  Loop loop(body);
  if (arena_->tasks.max_concurrency() == 1 || count <= 1) return loop.run(0, count);
  expect_threads();
  using Range = tbb::blocked_range<Index>;
  // Threads read copies that TBB has made: only TBB knows that they come after what wrote them.
  const auto run = [&loop](const Range& range) __attribute__((no_sanitize("thread"))) {
    loop.run(range.begin(), range.end());
  };
  // One index a task: bodies are coarse and unequal.
  arena_->tasks.execute(
      [&run, count] { tbb::parallel_for(Range(0, count, 1), run, tbb::simple_partitioner()); });
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
