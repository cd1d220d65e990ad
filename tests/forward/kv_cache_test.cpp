#include "calque/forward/kv_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <string>
#include <vector>

#include "forward/runner_fixture.h"

namespace calque::forward {
namespace {

// Halves keys and doubles values of some layers: exact in every precision, and as a rounding would
// it acts on keys that are turned and on values of each head.
class Scaling : public KvCacheRounding {
 public:
  explicit Scaling(std::set<Index> layers) : layers_(std::move(layers)) {}

  bool rounds(Index layer) const override { return layers_.count(layer) > 0; }
  void round_keys(const KvRows& rows) const override {
    keys_ += rows.rows_SD.rows();
    scale(rows.rows_SD, 0.5f);
  }
  void round_values(const KvRows& rows) const override { scale(rows.rows_SD, 2.0f); }

  Index keys() const { return keys_; }

 private:
  static void scale(MatrixView<float> rows_TD, float factor) {
    for (Index t = 0; t < rows_TD.rows(); ++t)
      for (Index i = 0; i < rows_TD.cols(); ++i) rows_TD(t, i) *= factor;
  }

  std::set<Index> layers_;
  mutable std::atomic<Index> keys_ = 0;
};

Matrix<float> logits(const model::ModelFolder& model, const Tokens& tokens, RunnerOptions options,
                     std::shared_ptr<const KvCacheRounding> cache) {
  options.kv_cache = std::move(cache);
  return logits_of(model, tokens, options);
}

class KvCacheRunner : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> runners() {
  if (CALQUE_WITH_TORCH) return {"cpu", "tensors"};
  return {"cpu"};
}

// Scores are linear in keys and outputs in values, so scaled projections do the same: of v, and of
// k where no norm stands between it and the scores.
TEST_P(KvCacheRunner, ChangesKeysAndValuesAsScaledProjectionsWould) {
  const model::ModelFolder model(model::family_folder("mistral_sliding"));
  const Tokens tokens = Reference(model::family_folder("mistral_sliding")).tokens;
  for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
    const RunnerOptions options{.dtype = dtype, .device = GetParam()};
    const auto scaling = std::make_shared<Scaling>(std::set<Index>{0, 1});
    const Matrix<float> through_cache = logits(model, tokens, options, scaling);
    const Matrix<float> scaled =
        logits_of(model, tokens, options, nullptr, [&](Index layer, model::BlockWeights& weights) {
          const std::string prefix =
              model.family.blocks[static_cast<std::size_t>(layer)].name + ".self_attn.";
          for (const auto& [name, factor] :
               {std::pair("k_proj.weight", 0.5f), std::pair("v_proj.weight", 2.0f)}) {
            const MatrixView<float> weight_NK = weights.at(prefix + name);
            for (Index n = 0; n < weight_NK.rows(); ++n)
              for (Index k = 0; k < weight_NK.cols(); ++k) weight_NK(n, k) *= factor;
          }
        });
    EXPECT_TRUE(same_bits(through_cache.view(), scaled.view())) << GetParam();
    Index real = 0;
    for (const Index length : tokens.lengths_B) real += length;
    EXPECT_EQ(scaling->keys(), 2 * model.config.num_kv_heads * real);
  }
}

TEST_P(KvCacheRunner, LeavesOtherLayersAlone) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Tokens tokens = Reference(model::family_folder("llama")).tokens;
  const RunnerOptions options{.device = GetParam()};
  const Matrix<float> plain = logits(model, tokens, options, nullptr);
  const auto none = std::make_shared<Scaling>(std::set<Index>{});
  EXPECT_TRUE(same_bits(logits(model, tokens, options, none).view(), plain.view()));
  EXPECT_EQ(none->keys(), 0);
  const auto one = std::make_shared<Scaling>(std::set<Index>{1});
  EXPECT_FALSE(same_bits(logits(model, tokens, options, one).view(), plain.view()));
}

INSTANTIATE_TEST_SUITE_P(Runners, KvCacheRunner, ::testing::ValuesIn(runners()));

}  // namespace
}  // namespace calque::forward
