// Measures each numerical operation's share of a plain product's rate (README.md).
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "calque/core/exec.h"
#include "calque/kernels/gptq_sweep.h"
#include "calque/kernels/gram.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/pack_bits.h"
#include "calque/kernels/refine_grid.h"
#include "calque/kernels/round_to_grid.h"
#include "calque/kernels/scale_search.h"
#include "measure.h"

namespace calque::bench {
namespace {

constexpr Index kGroup = 64;

struct Shape {
  Index rows, cols;  // the weight's shape
  std::string name() const { return fmt::format("{}x{}", rows, cols); }
};

constexpr Shape kShapes[] = {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {4096, 4096}};
constexpr Shape kLarge = {4096, 14336};

// H = 1 + x^T x for a few rows x: positive definite, with every column coupled to every other.
Matrix<float> hessian(Index size) {
  const Matrix<float> inputs_TK = normal_matrix(8, size, 3);
  Matrix<float> hessian_KK(size, size);
  for (Index i = 0; i < size; ++i) {
    for (Index t = 0; t < 8; ++t)
      for (Index j = 0; j < size; ++j)
        hessian_KK(i, j) += 0.01f * inputs_TK(t, i) * inputs_TK(t, j);
    hessian_KK(i, i) += 1.0f;
  }
  return hessian_KK;
}

std::vector<std::int32_t> groups(Index cols) {
  std::vector<std::int32_t> group_of_column_K;
  for (Index k = 0; k < cols; ++k)
    group_of_column_K.push_back(static_cast<std::int32_t>(k / kGroup));
  return group_of_column_K;
}

// An upper triangular factor with a weak coupling of every column to every later one. Factoring a
// Hessian of 14336 columns would take longer than all benchmarks together.
Matrix<float> factor(Index size) {
  Matrix<float> factor_KK(size, size);
  for (Index i = 0; i < size; ++i) {
    factor_KK(i, i) = 1.0f;
    for (Index j = i + 1; j < size; ++j)
      factor_KK(i, j) = static_cast<float>((31 * i + 17 * j) % 101 - 50) / (50.0f * size);
  }
  return factor_KK;
}

// A weight on a 4-bit grid with what the operations need beside it; made on first use, because
// the largest takes a gigabyte.
class Sample {
 public:
  explicit Sample(Shape shape)
      : weight_NK(normal_matrix(shape.rows, shape.cols, 1, 0.02f)),
        scales_NG(shape.rows, shape.cols / kGroup),
        offsets_NG(shape.rows, shape.cols / kGroup),
        codes_NK(shape.rows, shape.cols),
        groups_K(groups(shape.cols)) {
    const Exec exec = open_exec("cpu");
    scale_search({weight_NK, kGroup, {.rule = ScaleRule::kMinMax}, scales_NG, offsets_NG}, {},
                 exec);
    round_to_grid(weight_NK, {scales_NG, offsets_NG, groups_K, 15}, codes_NK, exec);
  }
  const Matrix<float>& hessian_KK() {
    if (hessian_KK_.empty()) hessian_KK_ = hessian(weight_NK.cols());
    return hessian_KK_;
  }
  const Matrix<float>& factor_KK() {
    if (factor_KK_.empty()) factor_KK_ = factor(weight_NK.cols());
    return factor_KK_;
  }

  Matrix<float> weight_NK, scales_NG, offsets_NG;
  Matrix<std::uint8_t> codes_NK;
  std::vector<std::int32_t> groups_K;

 private:
  Matrix<float> hessian_KK_, factor_KK_;
};

class LazySample {
 public:
  explicit LazySample(Shape shape) : shape_(shape) {}
  Sample& operator*() {
    if (!sample_) sample_ = std::make_unique<Sample>(shape_);
    return *sample_;
  }
  Sample* operator->() { return &**this; }

 private:
  Shape shape_;
  std::unique_ptr<Sample> sample_;
};

using SharedSample = std::shared_ptr<LazySample>;

struct Case {
  Shape shape;
  SharedSample sample;
  int threads;
  Exec exec = open_exec("cpu", threads);

  double weights() const { return static_cast<double>(shape.rows) * shape.cols; }
  double products() const { return weights() * shape.cols; }
  std::string name(const char* operation) const {
    return fmt::format("{}/{}", operation, shape.name());
  }
};

void convert(float value, float& to) { to = value; }
void convert(float value, BFloat16& to) { to = to_bfloat16(value); }

template <typename T>
std::shared_ptr<Matrix<T>> activations(Index tokens, Index features) {
  const Matrix<float> values = normal_matrix(tokens, features, 1);
  auto inputs_TK = std::make_shared<Matrix<T>>(tokens, features);
  for (Index i = 0; i < values.size(); ++i) convert(values.data()[i], inputs_TK->data()[i]);
  return inputs_TK;
}

// The sums of one block of tokens.
template <typename T>
void add_gram(const char* type, Index features, int threads, Precision precision) {
  constexpr Index kTokens = 2048;
  const auto prepare = [features, exec = open_exec("cpu", threads)]() -> Work {
    const auto inputs_TK = activations<T>(kTokens, features);
    const auto sums_KK = std::make_shared<Matrix<float>>(features, features);
    return [features, exec, inputs_TK, sums_KK] {
      std::vector<double> magnitude_K(static_cast<std::size_t>(features));
      accumulate_gram(std::as_const(*inputs_TK).view(), *sums_KK, magnitude_K, exec);
    };
  };
  const double operations = static_cast<double>(features) * (features + 1) * kTokens;
  add({fmt::format("gram_{}/{}", type, features), operations, threads, prepare}, precision);
}

// Work whose samples are made on first use.
template <typename Run>
std::function<Work()> ready(const Run& run) {
  return [run] { return Work(run); };
}

void add_sweep(const Case& c, Index block_size) {
  const auto prepare = [c, block_size]() -> Work {
    Sample& sample = **c.sample;
    sample.factor_KK();
    const auto weight_NK = std::make_shared<Matrix<float>>(sample.weight_NK.clone());
    return [c, block_size, weight_NK, &sample] {
      std::copy_n(sample.weight_NK.data(), weight_NK->size(), weight_NK->data());
      gptq_sweep({.weight_NK = *weight_NK,
                  .inverse_factor_KK = sample.factor_KK(),
                  .grid = {sample.scales_NG, sample.offsets_NG, sample.groups_K, 15},
                  .block_size = block_size,
                  .codes_NK = sample.codes_NK},
                 c.exec);
    };
  };
  add({fmt::format("{}/block:{}", c.name("gptq_sweep"), block_size), c.products(), c.threads,
       prepare},
      Precision::kFloat32);
}

void add_factorisation(const Case& c) {
  const auto run = [c] { inverse_cholesky((*c.sample)->hessian_KK(), c.exec); };
  const double size = static_cast<double>(c.shape.cols);
  add({fmt::format("inverse_cholesky/{}", c.shape.cols), 2.0 / 3 * size * size * size, c.threads,
       ready(run)},
      Precision::kFloat32);
}

void add_refinement(const Case& c, int passes) {
  const auto run = [c, passes] {
    Sample& sample = **c.sample;
    Matrix<float> scales_NG = sample.scales_NG.clone(), offsets_NG = sample.offsets_NG.clone();
    Matrix<std::uint8_t> codes_NK = sample.codes_NK.clone();
    refine_grid({sample.weight_NK,
                 sample.hessian_KK(),
                 kGroup,
                 {.passes = passes},
                 scales_NG,
                 offsets_NG,
                 codes_NK},
                c.exec);
  };
  add({fmt::format("{}/passes:{}", c.name("refine_grid"), passes), 2 * c.products() * (1 + passes),
       c.threads, ready(run)},
      Precision::kFloat32);
}

void add_energy(const Case& c) {
  const auto run = [c] { gram_energy((*c.sample)->weight_NK, (*c.sample)->hessian_KK(), c.exec); };
  add({c.name("gram_energy"), c.products(), c.threads, ready(run)}, Precision::kFloat32);
}

// Bound by arithmetic, 62 to 100 candidates for each weight, but not by that of products.
void add_search(const Case& c, const char* name, OffsetKind kind) {
  const auto run = [c, kind] {
    Sample& sample = **c.sample;
    const std::vector<float> importance_K(static_cast<std::size_t>(c.shape.cols), 1.0f);
    Matrix<float> scales_NG = sample.scales_NG.clone(), offsets_NG = sample.offsets_NG.clone();
    scale_search({sample.weight_NK, kGroup, {.offset_kind = kind}, scales_NG, offsets_NG},
                 importance_K, c.exec);
  };
  add_bytes({c.name(name), 4 * c.weights(), c.threads, ready(run)});
}

void add_rounding(const Case& c) {
  const auto run = [c] {
    Sample& sample = **c.sample;
    round_to_grid(sample.weight_NK, {sample.scales_NG, sample.offsets_NG, sample.groups_K, 15},
                  sample.codes_NK, c.exec);
  };
  add_bytes({c.name("round_to_grid"), 5 * c.weights(), c.threads, ready(run)});
}

void add_packing(const Case& c) {
  const auto run = [c] {
    Matrix<std::int32_t> words_NP(c.shape.rows, packed_words(c.shape.cols, 4));
    pack_rows((*c.sample)->codes_NK, 4, words_NP);
  };
  add_bytes({c.name("pack_rows"), 1.5 * c.weights(), 1, ready(run)});
}

void add_shape(Shape shape) {
  const auto sample = std::make_shared<LazySample>(shape);
  for (const int threads : {1, 2}) {
    const Case c = {shape, sample, threads};
    add_sweep(c, 128);
    add_factorisation(c);
    add_refinement(c, 4);
    add_energy(c);
    add_search(c, "scale_search", OffsetKind::kMiddleCode);
    add_search(c, "scale_search_zero_point", OffsetKind::kZeroPoint);
    add_search(c, "scale_search_minimum", OffsetKind::kMinimum);
    add_rounding(c);
    if (threads == 1) add_packing(c);
  }
}

void add_all() {
  for (const int threads : {1, 2})
    for (const Index features : {576, 1536, 4096, 14336}) {
      add_gram<float>("f32", features, threads, Precision::kFloat32);
      add_gram<BFloat16>("bf16", features, threads, Precision::kBFloat16);
    }
  for (const Shape& shape : kShapes) add_shape(shape);
  const auto large = std::make_shared<LazySample>(kLarge);
  for (const int threads : {1, 2})
    for (const Index block_size : {32, 64, 128, 256, 512})
      add_sweep({kLarge, large, threads}, block_size);
}

}  // namespace
}  // namespace calque::bench

int main(int argc, char** argv) {
  calque::bench::add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
