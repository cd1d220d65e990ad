#include "measure.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <limits>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <utility>

#include "calque/core/dtype.h"

// libgomp's, which oneDNN uses.
extern "C" void omp_set_num_threads(int);

namespace calque::bench {
namespace {

constexpr int kRepetitions = 5;

double process_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Two bf16 numbers in the place of a float.
Matrix<float> filled(Precision precision, Index size) {
  if (precision == Precision::kFloat32) return normal_matrix(size, size, 1);
  Matrix<float> matrix(size, size / 2);
  auto* const numbers = reinterpret_cast<BFloat16*>(matrix.data());
  for (Index i = 0; i < size * size; ++i)
    numbers[i] = to_bfloat16(static_cast<float>(i % 17) - 8.0f);
  return matrix;
}

}  // namespace

Seconds time_once(int threads, const Work& run) {
  const auto start = std::chrono::steady_clock::now();
  const double cpu = process_seconds();
  run();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  return {wall.count(), (process_seconds() - cpu) / threads};
}

Seconds best_of(const Seconds& a, const Seconds& b) {
  return {std::min(a.wall, b.wall), std::min(a.cpu, b.cpu)};
}

PlainProduct::PlainProduct(Precision precision, Index size, int threads)
    : precision_(precision),
      size_(size),
      threads_(threads),
      a_(filled(precision, size)),
      b_(filled(precision, size)),
      c_(size, size) {}

double PlainProduct::operations() const { return 2.0 * size_ * size_ * size_; }

void PlainProduct::run() const {
  using dnnl::memory;
  omp_set_num_threads(threads_);
  const auto type =
      precision_ == Precision::kFloat32 ? memory::data_type::f32 : memory::data_type::bf16;
  const memory::desc in({size_, size_}, type, memory::format_tag::ab);
  const memory::desc out({size_, size_}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto handle = [&](const memory::desc& desc, const Matrix<float>& matrix) {
    return memory(desc, engine, const_cast<float*>(matrix.data()));
  };
  dnnl::matmul({dnnl::matmul::desc(in, in, out), engine})
      .execute(stream, {{DNNL_ARG_SRC, handle(in, a_)},
                        {DNNL_ARG_WEIGHTS, handle(in, b_)},
                        {DNNL_ARG_DST, handle(out, c_)}});
  stream.wait();
}

namespace {

// A figure that a benchmark does not have. All have the same columns: the CSV reporter ends the
// program otherwise.
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

void show(benchmark::State& state, double gflops, double of_gemm, double of_gemm_cpu,
          double gigabytes) {
  state.counters["GFLOP/s"] = gflops;
  state.counters["of_gemm"] = of_gemm;
  state.counters["of_gemm_cpu"] = of_gemm_cpu;
  state.counters["GB/s"] = gigabytes;
}

}  // namespace

void add(Subject subject, Precision precision) {
  const std::string name = subject.name + "/threads:" + std::to_string(subject.threads);
  const auto run = [subject = std::move(subject), precision](benchmark::State& state) {
    const PlainProduct product(precision, 2048, subject.threads);
    const auto multiply = [&] { product.run(); };
    const Work work = subject.prepare();
    Seconds best, plain;
    work();
    for (auto _ : state) {
      plain = best_of(plain, time_once(subject.threads, multiply));
      const Seconds once = time_once(subject.threads, work);
      state.SetIterationTime(once.wall);
      best = best_of(best, once);
    }
    const double share = subject.operations / product.operations();
    show(state, subject.operations / best.wall / 1e9, share * plain.wall / best.wall,
         share * plain.cpu / best.cpu, kNone);
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Iterations(kRepetitions)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

void add_bytes(Subject subject) {
  const std::string name = subject.name + "/threads:" + std::to_string(subject.threads);
  const auto run = [subject = std::move(subject)](benchmark::State& state) {
    const Work work = subject.prepare();
    Seconds best;
    work();
    for (auto _ : state) {
      const Seconds once = time_once(subject.threads, work);
      state.SetIterationTime(once.wall);
      best = best_of(best, once);
    }
    show(state, kNone, kNone, kNone, subject.operations / best.wall / 1e9);
  };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Iterations(kRepetitions)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

Matrix<float> normal_matrix(Index rows, Index cols, unsigned seed, float deviation) {
  auto matrix = Matrix<float>::uninitialized(rows, cols);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::generate_n(matrix.data(), matrix.size(), [&] { return normal(random); });
  return matrix;
}

}  // namespace calque::bench
