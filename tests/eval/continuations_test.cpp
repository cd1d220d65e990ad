#include "calque/eval/continuations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "support/paths.h"

namespace calque::eval {
namespace {

using ::testing::ElementsAre;

// A model of two layers with random weights and 320 tokens.
class Continuations : public ::testing::Test {
 protected:
  std::vector<ContinuationScore> scores(const std::vector<Continuation>& continuations,
                                        const PassOptions& options = {}) const {
    return score_continuations(model(), {}, continuations, options).at(0);
  }
  EvalModel model() const { return {"tiny", reader_.get(), &reader_->config()}; }

  std::unique_ptr<formats::ArtifactReader> reader_ =
      formats::open_artifact(std::filesystem::path(test::fixtures()) / "families/llama");
};

// A window's perplexity is the likelihood of all of its tokens after the first.
TEST_F(Continuations, AreAsLikelyAsTheirTokensInAWindow) {
  text::TokenBlocks window;
  window.ids_BS = Matrix<std::int32_t>(1, 20);
  Continuation continuation{.before = {7}, .tokens = {}};
  window.ids_BS(0, 0) = 7;
  for (Index i = 1; i < 20; ++i) {
    window.ids_BS(0, i) = static_cast<std::int32_t>((37 * i * i + 11 * i) % 320);
    continuation.tokens.push_back(window.ids_BS(0, i));
  }
  window.lengths_B = {20};
  const double ppl = evaluate(model(), {}, window, {}).front().perplexity_hf.value;
  // 19 and 20 rows may be summed in another order (evaluate_test.cpp).
  EXPECT_NEAR(std::exp(-scores({continuation}).at(0).log_likelihood / 19) / ppl, 1.0, 1e-5);
}

// Shared rows and further passes change no bit.
TEST_F(Continuations, DoNotDependOnWhatElseIsScored) {
  const std::vector<Continuation> all = {{{5, 6, 7}, {8}}, {{5, 6, 7}, {9}}, {{1, 2}, {3, 4, 5}}};
  const PassOptions little{.tokens_a_pass = 1};
  EXPECT_EQ(continuation_passes(all, kTokensAPass), 1);
  EXPECT_EQ(continuation_passes(all, 1), 3);
  const auto together = scores(all), alone = scores(all, little);
  for (std::size_t i = 0; i < all.size(); ++i)
    EXPECT_EQ(together[i].log_likelihood, alone[i].log_likelihood) << i;
}

TEST_F(Continuations, AreWrittenAsTheyAreScored) {
  const std::vector<Prompt> prompts = {{{5, 6, 7}}, {{11}}};
  GreedyOptions options{.pass = {}, .max_new_tokens = 3, .ended = {}};
  const auto written = write_greedily(model(), {}, prompts, options).at(0);
  ASSERT_EQ(written[0].size(), 3u);
  EXPECT_TRUE(scores({{{5, 6, 7}, written[0]}}).at(0).greedy);
  EXPECT_FALSE(scores({{{5, 6, 7}, {(written[0][0] + 1) % 320}}}).at(0).greedy);

  options.ended = [](Index prompt, const text::TokenIds&) { return prompt == 0; };
  options.pass.tokens_a_pass = 1;
  const auto ended = write_greedily(model(), {model()}, prompts, options);
  EXPECT_THAT(ended[0][0], ElementsAre(written[0][0]));
  EXPECT_EQ(ended[0][1], written[1]);
  EXPECT_EQ(ended[1], ended[0]);
}

TEST_F(Continuations, RefuseTokensThatTheModelDoesNotKnow) {
  EXPECT_THROW(scores({{{5}, {320}}}), Error);
  EXPECT_THROW(write_greedily(model(), {}, std::vector<Prompt>{{{-1}}},
                              {.pass = {}, .max_new_tokens = 1, .ended = {}}),
               Error);
}

}  // namespace
}  // namespace calque::eval
