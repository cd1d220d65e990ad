#include "calque/forward/block_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <utility>

#include "calque/core/error.h"
#include "forward/cpu/states.h"
#include "forward/runner_fixture.h"
#include "model/naive_block.h"
#include "support/paths.h"

namespace calque::forward {
namespace {

using namespace model;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kSites[] = {"attn_in", "attn_out", "mlp_in", "mlp_out"};

class EveryFamilyRuns : public ::testing::TestWithParam<std::string> {
 protected:
  model::ModelFolder model{model::family_folder(GetParam())};
  Reference reference{model::family_folder(GetParam())};
};
INSTANTIATE_TEST_SUITE_P(Families, EveryFamilyRuns, ::testing::ValuesIn(model::family_folders()));

// Largest difference between naive logits of all sequences and `logits_RV`.
double difference_from_naive(const model::ModelFolder& model, const Tokens& tokens,
                             const Buffers& buffers, MatrixView<const float> logits_RV) {
  double largest = 0;
  for (Index b = 0; b < tokens.ids_BS.rows(); ++b) {
    const Index length = tokens.ids_BS.cols();
    const std::int32_t* const ids = tokens.ids_BS.row(b);
    const NaiveBlock::Rows naive = naive_logits(model, {ids, ids + length}, buffers);
    for (Index s = 0; s < length; ++s)
      for (Index v = 0; v < logits_RV.cols(); ++v)
        largest = std::max(
            largest, std::abs(naive[static_cast<std::size_t>(s)][static_cast<std::size_t>(v)] -
                              static_cast<double>(logits_RV(b * length + s, v))));
  }
  return largest;
}

// fp32 sums of at most K = 256 products err by up to K * 2^-24 * sum |x w|; logits here are below
// 70 (tied embeddings), the sums of absolute values some hundred: 1e-3 at worst, and typically far
// less. 1e-3 is also what nobody would notice.
constexpr double kLogitTolerance = 1e-3;

// The reference logits come from a model whose buffers (inverse frequencies, embedding scale) had
// been rounded to bf16 together with its weights (tests/fixtures/families/README.md). So
// transformers is compared with the definition at those buffers, and the runner with the definition
// at exact ones. Newer references have exact ones themselves.
TEST_P(EveryFamilyRuns, IsDefinedAsInTransformers) {
  const Buffers buffers = has_exact_frequencies(GetParam()) ? exact_buffers(model.config)
                                                            : rounded_buffers(model.config);
  const double difference =
      difference_from_naive(model, reference.tokens, buffers, reference.logits_RV);
  std::printf("%s: definition and transformers differ by %.2g\n", GetParam().c_str(), difference);
  EXPECT_LT(difference, kLogitTolerance);
}

TEST_P(EveryFamilyRuns, MakesTheLogitsOfTheDefinition) {
  const Matrix<float> logits_RV = logits_of(model, reference.tokens, {});
  const double difference =
      difference_from_naive(model, reference.tokens, exact_buffers(model.config), logits_RV);
  std::printf("%s: runner and definition differ by %.2g\n", GetParam().c_str(), difference);
  EXPECT_LT(difference, kLogitTolerance);
}

TEST_P(EveryFamilyRuns, MakesTheSameBitsWhenWatched) {
  for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
    const RunnerOptions options{dtype, 2};
    RecordingObserver observer;
    const Matrix<float> watched_RV = logits_of(model, reference.tokens, options, &observer);
    EXPECT_TRUE(same_bits(watched_RV, logits_of(model, reference.tokens, options)));
  }
}

TEST_P(EveryFamilyRuns, DoesNotDependOnTheNumberOfThreads) {
  for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
    const Matrix<float> one_RV = logits_of(model, reference.tokens, {dtype, 1});
    EXPECT_TRUE(same_bits(one_RV, logits_of(model, reference.tokens, {dtype, 2})));
    RecordingObserver with_one, with_two;
    logits_of(model, reference.tokens, {dtype, 1}, &with_one);
    logits_of(model, reference.tokens, {dtype, 2}, &with_two);
    for (const model::SiteSpec& site : telling_block(model.family).sites)
      EXPECT_EQ(with_one.rows(site.name, site.expert), with_two.rows(site.name, site.expert));
  }
}

// And the difference must be of the size of one rounding, or nothing was rounded.
TEST_P(EveryFamilyRuns, StaysCloseToFloat32InBFloat16) {
  const Matrix<float> exact_RV = logits_of(model, reference.tokens, {});
  const Matrix<float> rounded_RV = logits_of(model, reference.tokens, {ComputeDType::kBFloat16, 0});
  const double relative = relative_difference(model.family, rounded_RV, exact_RV);
  std::printf("%s: bf16 differs by %.2g of the logits' size\n", GetParam().c_str(), relative);
  EXPECT_LT(relative, bf16_tolerance(GetParam()));
  EXPECT_GT(relative, 0.5 * std::ldexp(1.0, -9));
}

// fp32 sums of at most K = 256 products against double: K * 2^-24 * sum |x w|. The sums here are of
// some 10 in magnitude: 1.5e-4, and what follows (softmax, silu, norms) keeps that size.
constexpr float kSumTolerance = 5e-4f;

TEST_P(EveryFamilyRuns, ShowsTheInputsThatTheDefinitionGives) {
  const model::BlockSpec& block = telling_block(model.family);
  model::BlockWeights weights = load_block(model.source, block);
  const auto runner = make_block_runner(model.config, {});
  const auto hidden = embedded(*runner, model, reference.tokens);
  RecordingObserver observer;
  runner->run_block(block, weights, *hidden, &observer);

  const Buffers buffers = exact_buffers(model.config);
  std::map<std::pair<std::string, Index>, NaiveBlock::Rows> expected;
  for (Index b = 0; b < 2; ++b) {
    const std::int32_t* const first = reference.tokens.ids_BS.row(b);
    const std::vector<std::int32_t> ids(first, first + reference.tokens.ids_BS.cols());
    NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
    naive.kept = naive_kept(model, ids);
    naive.run(naive_embedding(model, ids, buffers));
    for (const auto& [site, rows] : naive.inputs)
      expected[site].insert(expected[site].end(), rows.begin(), rows.end());
  }
  for (const model::SiteSpec& site : block.sites) {
    const std::vector<std::vector<float>>& shown = observer.rows(site.name, site.expert);
    const NaiveBlock::Rows& rows = expected[{site.name, site.expert}];
    ASSERT_EQ(shown.size(), rows.size()) << site.name << " " << site.expert;
    for (std::size_t t = 0; t < rows.size(); ++t) {
      ASSERT_EQ(shown[t].size(), rows[t].size());
      for (std::size_t k = 0; k < shown[t].size(); ++k)
        ASSERT_NEAR(shown[t][k], rows[t][k], kSumTolerance)
            << site.name << " " << site.expert << " row " << t << " column " << k;
    }
  }
}

void expect_near(MatrixView<const float> given, const NaiveBlock::Rows& wanted) {
  ASSERT_EQ(given.rows(), static_cast<Index>(wanted.size()));
  for (Index t = 0; t < given.rows(); ++t)
    for (Index i = 0; i < given.cols(); ++i)
      ASSERT_NEAR(given(t, i), wanted[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)],
                  kSumTolerance)
          << "row " << t << " column " << i;
}

TEST_P(EveryFamilyRuns, TellsWhatEachHalfAdds) {
  const model::BlockSpec& block = telling_block(model.family);
  model::BlockWeights weights = load_block(model.source, block);
  const auto runner = make_block_runner(model.config, {});
  const auto hidden = embedded(*runner, model, reference.tokens);
  std::vector<Matrix<float>> halves;
  RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights& current) {
    if (halves.size() == block.halves.size() ||
        site.name != block.sites[block.halves[halves.size()].first_site].name)
      return;
    halves.push_back(runner->half_output(block, current, *hidden, halves.size(), 1));
  });
  runner->run_block(block, weights, *hidden, &observer);

  const Buffers buffers = exact_buffers(model.config);
  const std::int32_t* const first = reference.tokens.ids_BS.row(1);
  const std::vector<std::int32_t> ids(first, first + reference.tokens.ids_BS.cols());
  NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
  naive.kept = naive_kept(model, ids);
  naive.run(naive_embedding(model, ids, buffers));
  ASSERT_EQ(halves.size(), block.halves.size());
  for (std::size_t h = 0; h < halves.size(); ++h) expect_near(halves[h], naive.added[h]);
}

// Weights replaced when a site is ready must act exactly as if the model had always had them, and
// make a difference far above what rounding explains.
TEST_P(EveryFamilyRuns, ContinuesWithTheWeightsThatASiteGets) {
  const Matrix<float> unchanged_RV = logits_of(model, reference.tokens, {});
  for (const model::SiteSpec& changed : telling_block(model.family).sites) {
    if (changed.readers.empty() || changed.expert > 1) continue;
    const auto change = [](const model::SiteSpec& site, model::BlockWeights& weights) {
      for (const model::LinearSpec& linear : site.readers) {
        Matrix<float> weight_NK = weights.take(linear.weight.name);
        for (Index i = 0; i < weight_NK.size(); i += 3) weight_NK.data()[i] *= 1.5f;
        weights.put(linear.weight.name, weight_NK.clone());
      }
    };
    RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights& weights) {
      if (site.name == changed.name && site.expert == changed.expert) change(site, weights);
    });
    const Matrix<float> replaced_RV = logits_of(model, reference.tokens, {}, &observer);
    const Matrix<float> given_RV = logits_of(
        model, reference.tokens, {}, nullptr, [&](Index layer, model::BlockWeights& weights) {
          const model::BlockSpec& block = model.family.blocks[static_cast<std::size_t>(layer)];
          if (block.has_site(changed.name))
            change(block.site(changed.name, changed.expert), weights);
        });
    EXPECT_TRUE(same_bits(replaced_RV, given_RV)) << changed.name;
    EXPECT_GT(largest_difference(replaced_RV, unchanged_RV), 10 * kLogitTolerance) << changed.name;
  }
}

// There is no reference of Gemma 1: the weights of Gemma 2 without its second norms.
TEST(BlockRunner, RunsGemma1AsDefined) {
  model::ModelConfig config = model::load_config(model::family_folder("gemma2"));
  config.architecture = "GemmaForCausalLM";
  config.query_scale = config.attention_softcap = config.logit_softcap = 0;
  config.window_of_layer.assign(config.window_of_layer.size(), 0);
  const model::ModelFolder model(model::family_folder("gemma2"), config);
  const Reference reference{model::family_folder("gemma2")};
  EXPECT_FALSE(model.family.blocks.front().halves[1].post_norm.has_value());
  const Matrix<float> logits_RV = logits_of(model, reference.tokens, {});
  EXPECT_LT(difference_from_naive(model, reference.tokens, exact_buffers(config), logits_RV),
            kLogitTolerance);
}

// longrope multiplies turned queries and keys by a factor, so scores by its square, which is what a
// query_scale of as much does. With the same factors for every pair, frequencies are divided as by
// linear scaling. Sequences of 96 are beyond an original context of 64: the long factors count.
TEST(BlockRunner, ScalesScoresAndPositionsAsLongRopeSays) {
  model::ModelConfig config = model::load_config(model::family_folder("phi3"));
  const Reference reference{model::family_folder("phi3")};
  config.rope.scaling = model::RopeSpec::Scaling::kLongRope;
  config.rope.original_max_positions = 64;
  config.rope.short_factors.assign(16, 1.0);
  config.rope.long_factors.assign(16, 4.0);
  config.rope.attention_factor = 1.25;
  const Matrix<float> long_RV =
      logits_of(model::ModelFolder(model::family_folder("phi3"), config), reference.tokens, {});
  config.rope = model::RopeSpec{.theta = config.rope.theta};
  const Matrix<float> plain_RV =
      logits_of(model::ModelFolder(model::family_folder("phi3"), config), reference.tokens, {});
  config.rope.scaling = model::RopeSpec::Scaling::kLinear;
  config.rope.factor = 4.0;
  config.query_scale = 1.25 * 1.25 / std::sqrt(32.0);
  const Matrix<float> expected_RV =
      logits_of(model::ModelFolder(model::family_folder("phi3"), config), reference.tokens, {});
  EXPECT_LT(largest_difference(long_RV, expected_RV), kLogitTolerance);
  EXPECT_GT(largest_difference(long_RV, plain_RV), 100 * kLogitTolerance);
}

TEST(BlockRunner, MakesTheLogitsOfTransformersForTheDemoModel) {
  const model::ModelFolder model(test::demo_model());
  const Reference reference{test::demo_model()};
  const Matrix<float> logits_RV = logits_of(model, reference.tokens, {});
  const float difference = largest_difference(logits_RV, reference.logits_RV);
  std::printf("demo: largest difference of a logit %.2g\n", static_cast<double>(difference));
  EXPECT_LT(difference, 1e-3f);
}

// A prefix of a causal model's input has the logits of the whole; sums are over other shapes, so to
// the tolerance of fp32 and not to the bit.
TEST(BlockRunner, LeavesPaddingOut) {
  const model::ModelFolder model(model::family_folder("mistral_sliding"));
  Tokens tokens = Reference(model::family_folder("mistral_sliding")).tokens;
  const Matrix<float> whole_RV = logits_of(model, tokens, {});
  tokens.lengths_B = {96, 50};
  for (Index s = 50; s < 96; ++s) tokens.ids_BS(1, s) = -1;

  RecordingObserver observer;
  const Matrix<float> logits_RV = logits_of(model, tokens, {}, &observer);
  for (const char* const kind : kSites)
    EXPECT_EQ(observer.rows(kind).size(), model.family.blocks.size() * (96 + 50));
  EXPECT_LT(largest_difference(logits_RV.view(), whole_RV.view().rows(0, 96 + 50)), 1e-4f);
}

TEST(BlockRunner, RunsSequencesOfNoTokens) {
  const model::ModelFolder model(model::family_folder("llama"));
  Tokens tokens = Reference(model::family_folder("llama")).tokens;
  const Matrix<float> whole_RV = logits_of(model, tokens, {});
  tokens.lengths_B = {0, 96};
  const Matrix<float> logits_RV = logits_of(model, tokens, {});
  EXPECT_TRUE(same_bits(logits_RV, whole_RV.view().rows(96, 96)));
}

// 45 sequences of 96 tokens are 4320 rows, more than an observer gets at once. Sequences with the
// same ids must show the same rows, whichever chunk they fall into.
TEST(BlockRunner, ShowsRowsInOrderAndInChunks) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Reference reference{model::family_folder("llama")};
  Tokens tokens{Matrix<std::int32_t>(45, 96), std::vector<Index>(45, 96)};
  for (Index b = 0; b < 45; ++b)
    for (Index s = 0; s < 96; ++s) tokens.ids_BS(b, s) = reference.tokens.ids_BS(b % 2, s);

  const model::BlockSpec& block = model.family.blocks.front();
  model::BlockWeights weights = load_block(model.source, block);
  const auto runner = make_block_runner(model.config, {ComputeDType::kFloat32, 2});
  const auto hidden = runner->embed(tokens.ids_BS, tokens.lengths_B,
                                    model.source.load(model.family.embedding.name));
  RecordingObserver observer;
  runner->run_block(block, weights, *hidden, &observer);
  EXPECT_THAT(observer.events(),
              ElementsAre("attn_in 4096", "attn_in 224", "attn_in ready", "attn_out 4096",
                          "attn_out 224", "attn_out ready", "mlp_in 4096", "mlp_in 224",
                          "mlp_in ready", "mlp_out 4096", "mlp_out 224", "mlp_out ready"));
  for (const char* const kind : kSites) {
    const auto& rows = observer.rows(kind);
    ASSERT_EQ(rows.size(), 4320u);
    EXPECT_NE(rows[1], rows[97]);
    for (std::size_t r = 192; r < rows.size(); ++r) ASSERT_EQ(rows[r], rows[r % 192]) << r;
  }
}

TEST(BlockRunner, ShowsBFloat16RowsWhenItComputesInThem) {
  class Expecting : public BlockObserver {
   public:
    void site_input(const model::SiteSpec& site, const ActivationView& inputs_TK) override {
      EXPECT_TRUE(inputs_TK.is_bf16());
      EXPECT_EQ(inputs_TK.cols(), site.features());
      ++calls;
    }
    void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}
    int calls = 0;
  };
  const model::ModelFolder model(model::family_folder("qwen3"));
  const Reference reference{model::family_folder("qwen3")};
  Expecting observer;
  logits_of(model, reference.tokens, {ComputeDType::kBFloat16, 0}, &observer);
  EXPECT_EQ(observer.calls, 8);
}

TEST(BlockRunner, MakesLogitsOfAnyRangeOfPositions) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Reference reference{model::family_folder("llama")};
  const auto runner = make_block_runner(model.config, {});
  const auto hidden = runner->embed(reference.tokens.ids_BS, reference.tokens.lengths_B,
                                    model.source.load(model.family.embedding.name));
  EXPECT_EQ(hidden->sequences(), 2);
  EXPECT_EQ(hidden->length(1), 96);
  for (const model::BlockSpec& block : model.family.blocks) {
    model::BlockWeights weights = load_block(model.source, block);
    runner->run_block(block, weights, *hidden, nullptr);
  }
  const auto head = runner->make_head(model.source.load(model.family.final_norm.name),
                                      model.source.load(model.family.head().name));
  Matrix<float> logits_TV(7, model.config.vocab_size);
  head->logits(*hidden, 1, 30, logits_TV);
  const Matrix<float> all_RV = logits_of(model, reference.tokens, {});
  EXPECT_LT(largest_difference(logits_TV, all_RV.view().rows(96 + 30, 7)), 1e-4f);
}

TEST(BlockRunner, HeadInputIsTheFinalNormOfTheHiddenStates) { expect_final_norm("cpu"); }

// The exception is made in the plug-in and caught here: both must agree on its type.
TEST(BlockRunner, ThrowsErrorsThatTheProgramCatches) {
  const model::ModelFolder model(model::family_folder("llama"));
  const auto runner = make_block_runner(model.config, {});
  Matrix<std::int32_t> ids_BS(1, 3);
  ids_BS(0, 2) = 320;
  const std::vector<Index> lengths_B{3};
  const Matrix<float> embedding_VH = model.source.load(model.family.embedding.name);
  try {
    runner->embed(ids_BS, lengths_B, embedding_VH);
    FAIL() << "an id outside the vocabulary was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    EXPECT_EQ(error.code(), "E167");
    EXPECT_THAT(error.what(), AllOf(HasSubstr("token id 320"), HasSubstr("position 2"),
                                    HasSubstr("vocabulary of 320")));
  }
}

TEST(BlockRunner, LetsAnObserversErrorThrough) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Reference reference{model::family_folder("llama")};
  RecordingObserver observer([](const model::SiteSpec& site, model::BlockWeights&) {
    if (site.name == "mlp_in") throw Error(ErrorKind::kNumerical, "E401", "not positive definite");
  });
  try {
    logits_of(model, reference.tokens, {}, &observer);
    FAIL() << "the observer's error was lost";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kNumerical);
    EXPECT_STREQ(error.what(), "not positive definite");
  }
}

// A block may have any number of halves: here attention alone.
TEST(BlockRunner, RunsBlocksOfOneHalf) {
  const model::ModelFolder model(model::family_folder("llama"));
  const Reference reference{model::family_folder("llama")};
  model::BlockSpec block = model.family.blocks.front();
  model::BlockWeights weights = load_block(model.source, block);
  block.halves.resize(1);
  block.sites.resize(2);
  const auto runner = make_block_runner(model.config, {});
  const auto run = [&](BlockObserver* observer) {
    auto hidden = runner->embed(reference.tokens.ids_BS, reference.tokens.lengths_B,
                                model.source.load(model.family.embedding.name));
    runner->run_block(block, weights, *hidden, observer);
    return hidden;
  };
  RecordingObserver observer;
  const auto whole = run(nullptr), staged = run(&observer);
  const MatrixView<const float> whole_TH = dynamic_cast<CpuStates&>(*whole).all_TH();
  EXPECT_TRUE(same_bits(whole_TH, dynamic_cast<CpuStates&>(*staged).all_TH()));
  EXPECT_EQ(observer.rows("mlp_in").size(), 0u);

  const Buffers buffers = exact_buffers(model.config);
  const std::int32_t* const ids = reference.tokens.ids_BS.row(0);
  NaiveBlock naive{model.config, model.family.blocks.front(), weights, buffers, {}, {}};
  naive.run(naive_embedding(model, {ids, ids + 96}, buffers));
  expect_near(whole_TH.rows(0, 96), naive.attended);
}

TEST(BlockRunner, DescribesItself) {
  EXPECT_THAT(block_runner_description(), ::testing::StartsWith("cpu: oneDNN"));
}

}  // namespace
}  // namespace calque::forward
