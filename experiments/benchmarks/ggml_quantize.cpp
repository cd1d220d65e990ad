// CPU seconds that the quantizers of GGUF block types take for 1e9 weights (README.md).
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "calque/core/exec.h"
#include "calque/core/instruction_set.h"
#include "calque/core/matrix.h"
#include "calque/ggml/blocks.h"
#include "calque/kernels/ggml.h"
#include "ggml/types/codec.h"

namespace calque {
namespace {

constexpr Index kRows = 4096, kColumns = 14336;
constexpr int kRepetitions = 5;

struct Subject {
  ggml::Type type;
  const char* name;
  // CPU seconds of llama-quantize for 1e9 weights; 0 if not measured.
  double peer_plain = 0;
  double peer_weighted = 0;
};

constexpr Subject kSubjects[] = {
    {ggml::Type::kQ4_0, "Q4_0"},      {ggml::Type::kQ4_1, "Q4_1"},
    {ggml::Type::kQ5_0, "Q5_0"},      {ggml::Type::kQ5_1, "Q5_1"},
    {ggml::Type::kQ8_0, "Q8_0", 8.6}, {ggml::Type::kQ2_K, "Q2_K"},
    {ggml::Type::kQ3_K, "Q3_K"},      {ggml::Type::kQ4_K, "Q4_K", 69, 115},
    {ggml::Type::kQ5_K, "Q5_K"},      {ggml::Type::kQ6_K, "Q6_K", 33},
    {ggml::Type::kIQ4_NL, "IQ4_NL"},  {ggml::Type::kIQ4_XS, "IQ4_XS", 142},
    {ggml::Type::kTQ1_0, "TQ1_0"},    {ggml::Type::kTQ2_0, "TQ2_0"},
    {ggml::Type::kMXFP4, "MXFP4"},
};

const Matrix<float>& weight_NK() {
  static const Matrix<float> matrix = [] {
    Matrix<float> x(kRows, kColumns);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.02f);
    std::generate_n(x.data(), x.size(), [&] { return normal(random); });
    return x;
  }();
  return matrix;
}

// Mean squares of activations spread about like this.
std::vector<float> importance_K() {
  std::vector<float> weights(kColumns);
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (float& weight : weights) weight = std::exp(normal(random));
  return weights;
}

double user_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec) + 1e-6 * usage.ru_utime.tv_usec;
}

using Importance = std::vector<float>;  // empty: none

struct Case {
  Subject subject;
  Importance importance_K;

  double peer() const { return importance_K.empty() ? subject.peer_plain : subject.peer_weighted; }
  std::string name() const {
    return fmt::format("{}/{}", subject.name, importance_K.empty() ? "plain" : "weighted");
  }
};

// Times work(out) on the whole matrix.
template <typename Work>
void measure(benchmark::State& state, const Case& c, Work work) {
  weight_NK();
  std::vector<std::byte> out(kRows * ggml::row_bytes(c.subject.type, kColumns));
  const double start = user_seconds();
  for (auto _ : state) work(out);
  const double weights = static_cast<double>(kRows * kColumns * state.iterations());
  const double seconds = (user_seconds() - start) / weights * 1e9;
  state.counters["cpu_s_per_1e9"] = seconds;
  // Not a number where there is none: the CSV reporter wants the same columns everywhere.
  state.counters["of_llama_quantize"] =
      c.peer() > 0 ? seconds / c.peer() : std::numeric_limits<double>::quiet_NaN();
}

// Other programs on the machine only ever make it slower, so the least of the repetitions counts.
double least(const std::vector<double>& values) {
  return *std::min_element(values.begin(), values.end());
}

template <typename Work>
void add(const std::string& name, const Case& c, Work work) {
  const auto run = [c, work](benchmark::State& state) { measure(state, c, work); };
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Iterations(1)
      ->Repetitions(kRepetitions)
      ->ComputeStatistics("least", least)
      ->ReportAggregatesOnly()
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

// As the program does it.
void add_whole(const Case& c, int threads) {
  const std::string name = fmt::format("{}/{}/threads:{}", c.name(),
                                       calque::name_of(calque::instruction_set()), threads);
  add(name, c, [c, exec = open_exec("cpu", threads)](std::span<std::byte> out) {
    ggml_quantize(c.subject.type, weight_NK(), c.importance_K, out, exec);
  });
}

// As it would be on a processor that has the instruction set of `copy` and no wider one.
void add_copy(const Case& c, const ggml::Copy& copy) {
  const std::string name = fmt::format("{}/{}/threads:1", c.name(), copy.instruction_set);
  add(name, c, [c, codec = copy.find_codec(c.subject.type)](std::span<std::byte> out) {
    const float* importance = c.importance_K.empty() ? nullptr : c.importance_K.data();
    for (Index n = 0; n < kRows; ++n)
      codec->quantize({weight_NK().row(n), importance, kColumns},
                      out.data() + static_cast<std::size_t>(n) * out.size() / kRows);
  });
}

void add_case(const Case& c) {
  for (const int threads : {1, 2}) add_whole(c, threads);
  const auto copies = ggml::runnable_copies();
  for (const ggml::Copy& copy : copies.first(copies.size() - 1)) add_copy(c, copy);
}

}  // namespace
}  // namespace calque

int main(int argc, char** argv) {
  for (const auto& subject : calque::kSubjects)
    for (const auto& importance_K : {calque::Importance{}, calque::importance_K()})
      calque::add_case({subject, importance_K});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
