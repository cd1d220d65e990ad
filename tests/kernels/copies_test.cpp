// The kernels that are compiled for every machine and for AVX-512 give the same bits either way.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "calque/core/instruction_set.h"
#include "calque/kernels/ggml.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/kernels/pack_bits.h"
#include "calque/kernels/round_vectors.h"
#include "ggml/ggml_samples.h"
#include "kernels/cpu/table.h"
#include "support/samples.h"

namespace calque {
namespace {

#ifdef CALQUE_AVX512_COPY

constexpr Index kRows = 70;  // a whole panel and a part of one
constexpr Index kColumns = 512;
constexpr Index kGroup = 64;

Exec exec_with(const KernelTable& kernels) {
  return Exec(
      std::make_shared<const Exec::Backend>(Exec::Backend{"cpu", kernels, Workers(2), nullptr}));
}

// Everything that a copy computed, byte after byte.
class Bytes {
 public:
  template <typename T>
  void append(const T* values, std::size_t count) {
    const std::size_t before = bytes_.size();
    bytes_.resize(before + count * sizeof(T));
    std::memcpy(bytes_.data() + before, values, count * sizeof(T));
  }
  template <typename T>
  void append(const Matrix<T>& matrix) {
    append(matrix.data(), static_cast<std::size_t>(matrix.size()));
  }
  bool operator==(const Bytes&) const = default;
  bool empty() const { return bytes_.empty(); }

 private:
  std::vector<std::byte> bytes_;
};

class KernelCopies : public testing::Test {
 protected:
  void SetUp() override {
    if (!uses_avx512()) GTEST_SKIP() << "the copy for AVX-512 is not to run here";
  }

  // compute(exec, bytes) with either copy.
  template <typename Compute>
  void expect_equal(const Compute& compute) const {
    Bytes common, wide;
    compute(exec_with(cpu::kernels()), common);
    compute(exec_with(cpu::avx512::kernels()), wide);
    EXPECT_FALSE(common.empty());
    EXPECT_TRUE(common == wide);
  }

  struct Grid {
    Matrix<float> scales{kRows, kColumns / kGroup}, offsets{kRows, kColumns / kGroup};
    Matrix<std::uint8_t> codes{kRows, kColumns};
  };
  Grid searched(const Exec& exec, const ScaleSearchOptions& options) const {
    Grid grid;
    const ScaleSearch search{weight_, kGroup, options, grid.scales, grid.offsets};
    if (options.rule == ScaleRule::kBlockSearch)
      block_scale_search(search, hessian_, exec);
    else
      scale_search(search, importance_, exec);
    round_to_grid(weight_, {grid.scales, grid.offsets, groups_, (1 << options.bits) - 1},
                  grid.codes, exec);
    return grid;
  }

  Matrix<float> weight_ = test::normal_matrix(kRows, kColumns, 81);
  Matrix<float> hessian_ =
      test::damped_hessian(test::correlated_inputs(600, kColumns, 6, 82), 0.01);
  std::vector<float> importance_ = ggml_importance(kColumns);
  std::vector<std::int32_t> groups_ = test::groups_of(kColumns, kGroup);
};

constexpr OffsetKind kKinds[] = {OffsetKind::kMiddleCode, OffsetKind::kZeroPoint,
                                 OffsetKind::kMinimum};

TEST_F(KernelCopies, SearchTheSameScalesAndRoundToTheSameCodes) {
  for (const ScaleRule rule :
       {ScaleRule::kMinMax, ScaleRule::kFullRange, ScaleRule::kSearch, ScaleRule::kBlockSearch})
    for (const OffsetKind kind : kKinds)
      expect_equal([&](const Exec& exec, Bytes& bytes) {
        const Grid grid = searched(exec, {.bits = 4, .offset_kind = kind, .rule = rule});
        bytes.append(grid.scales);
        bytes.append(grid.offsets);
        bytes.append(grid.codes);
      });
}

TEST_F(KernelCopies, SweepTheSame) {
  Matrix<float> factor = hessian_.clone();
  ASSERT_TRUE(inverse_cholesky(factor, exec_with(cpu::kernels())));
  for (const OffsetKind kind : kKinds)
    expect_equal([&](const Exec& exec, Bytes& bytes) {
      Grid grid = searched(exec, {.bits = 3, .offset_kind = kind});
      Matrix<float> values = weight_.clone();
      const double loss = gptq_sweep(
          {values, factor, {grid.scales, grid.offsets, groups_, 7}, 128, grid.codes}, exec);
      bytes.append(values);
      bytes.append(grid.codes);
      bytes.append(&loss, 1);
    });
}

TEST_F(KernelCopies, RefineGridsTheSame) {
  for (const OffsetKind kind : kKinds)
    expect_equal([&](const Exec& exec, Bytes& bytes) {
      Grid grid = searched(exec, {.bits = 3, .offset_kind = kind});
      const RefineOptions options{.offset_kind = kind, .max_code = 7, .passes = 2};
      const double loss = refine_grid(
          {weight_, hessian_, kGroup, options, grid.scales, grid.offsets, grid.codes}, exec);
      bytes.append(grid.scales);
      bytes.append(grid.offsets);
      bytes.append(grid.codes);
      bytes.append(&loss, 1);
    });
}

TEST_F(KernelCopies, RefineBlocksTheSame) {
  for (const char* name : {"Q2_K", "Q4_K", "Q6_K"})
    expect_equal([&](const Exec& exec, Bytes& bytes) {
      const ggml::Type type = ggml::find_type(name)->type;
      std::vector<std::byte> out(kRows * ggml::row_bytes(type, kColumns));
      ggml_quantize(type, weight_, {}, out, exec);
      ggml::Fields fields = ggml_fields(type, out, kRows, kColumns, exec);
      std::vector<double> losses(kRows);
      refine_blocks({weight_, hessian_, *ggml::info_of(type).structure, 2, fields, losses}, exec);
      store_ggml_fields(type, fields, out, exec);
      bytes.append(out.data(), out.size());
      bytes.append(losses.data(), losses.size());
    });
}

TEST_F(KernelCopies, RoundVectorsTheSame) {
  const Matrix<float> factor = *inverse_cholesky(hessian_.clone(), open_exec("cpu", 2));
  std::vector<Index> order(static_cast<std::size_t>(kColumns / 8));
  std::iota(order.begin(), order.end(), Index{0});
  for (const char* name : {"IQ1_M", "IQ2_XXS", "IQ2_S", "IQ3_XXS"})
    expect_equal([&](const Exec& exec, Bytes& bytes) {
      const ggml::Type type = ggml::find_type(name)->type;
      std::vector<std::byte> out(kRows * ggml::row_bytes(type, kColumns));
      ggml_quantize(type, weight_, {}, out, exec);
      ggml::VectorFields fields = ggml_vectors(type, out, kRows, kColumns, exec);
      std::vector<double> losses(kRows);
      round_vectors({weight_, hessian_, *ggml::vectors_of(type), factor, order, 2, fields, losses},
                    exec);
      store_ggml_vectors(type, fields, out, exec);
      bytes.append(out.data(), out.size());
      bytes.append(losses.data(), losses.size());
    });
}

TEST_F(KernelCopies, PackTheSame) {
  for (const int bits : {2, 3, 4, 8})
    expect_equal([&](const Exec& exec, Bytes& bytes) {
      const Grid grid = searched(exec, {.bits = bits});
      for (const PackedVectors vectors : {PackedVectors::kColumns, PackedVectors::kRows}) {
        const Matrix<std::uint8_t> codes =
            Matrix<std::uint8_t>::copy_of(grid.codes.view().rows(0, 64));
        Matrix<std::int32_t> words = vectors == PackedVectors::kColumns
                                         ? Matrix<std::int32_t>(2 * bits, kColumns)
                                         : Matrix<std::int32_t>(64, kColumns / 32 * bits);
        exec.backend().kernels.pack_bits({vectors, codes, bits, words}, exec.backend());
        bytes.append(words);
      }
    });
}

#endif

}  // namespace
}  // namespace calque
