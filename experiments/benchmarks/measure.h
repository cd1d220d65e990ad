#pragma once

#include <functional>
#include <string>

#include "calque/core/matrix.h"

namespace calque::bench {

enum class Precision { kFloat32, kBFloat16 };

using Work = std::function<void()>;

// Work that is timed, and how many floating-point operations (or bytes) it is made of.
struct Subject {
  std::string name;
  double operations = 0;
  int threads = 1;
  std::function<Work()> prepare;  // makes the inputs; not timed
};

// Seconds of one call.
struct Seconds {
  double wall = 1e300;
  double cpu = 1e300;  // CPU time of the whole process, divided by the number of threads
};

Seconds time_once(int threads, const Work& run);

// The best of each: other programs on the machine only ever make it slower.
Seconds best_of(const Seconds& a, const Seconds& b);

// A plain product of square matrices by oneDNN on a number of threads: what the machine can do.
class PlainProduct {
 public:
  PlainProduct(Precision precision, Index size, int threads);
  double operations() const;
  void run() const;

 private:
  Precision precision_;
  Index size_;
  int threads_;
  Matrix<float> a_, b_, c_;
};

// Registers a benchmark that alternates the subject with a plain product of the same precision on
// as many threads. Counters: GFLOP/s (or GB/s), and `of_gemm`, the subject's rate as a share of the
// product's, each at its best by the wall clock; `of_gemm_cpu`, the same by processor time, which
// other programs on the machine do not disturb but which does not see idle threads.
void add(Subject subject, Precision precision);

// Registers a benchmark of work that is bound by memory: GB/s only.
void add_bytes(Subject subject);

// Normal numbers of mean 0, the same every time.
Matrix<float> normal_matrix(Index rows, Index cols, unsigned seed, float deviation = 1.0f);

}  // namespace calque::bench
