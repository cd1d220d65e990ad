#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "calque/model/expert_tokens.h"
#include "forward/runner_fixture.h"
#include "model/naive_block.h"

namespace calque::forward {
namespace {

// mlp_in shows every token, the experts only theirs: 192 tokens, two experts each.
TEST(ExpertSites, ShowsSitesOfExpertsInTheirOrder) {
  const model::ModelFolder model(model::family_folder("qwen2_moe"));
  const Reference reference{model::family_folder("qwen2_moe")};
  const model::BlockSpec& block = model.family.blocks.front();
  model::BlockWeights weights = load_block(model.source, block);
  const auto runner = make_block_runner(model.config, {});
  const auto hidden = runner->embed(reference.tokens.ids_BS, reference.tokens.lengths_B,
                                    model.source.load(model.family.embedding.name));
  std::vector<std::pair<std::string, Index>> ready, wanted;
  RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights&) {
    ready.emplace_back(site.name, site.expert);
  });
  runner->run_block(block, weights, *hidden, &observer);
  for (const char* const kind : {"attn_in", "attn_out", "mlp_in"}) wanted.emplace_back(kind, -1);
  for (const char* const kind : {"expert_in", "expert_out"})
    for (Index e = 0; e < 8; ++e) wanted.emplace_back(kind, e);
  wanted.emplace_back("mlp_out", -1);
  EXPECT_EQ(ready, wanted);
  EXPECT_EQ(observer.rows("mlp_in").size(), 192u);
  std::size_t routed = 0;
  for (Index e = 0; e < 8; ++e) routed += observer.rows("expert_in", e).size();
  EXPECT_EQ(routed, 2 * 192u);
  for (Index e = 0; e < 8; ++e) {
    const std::vector<Index>& tokens = observer.tokens("expert_in", e);
    EXPECT_EQ(observer.tokens("expert_out", e), tokens);
    ASSERT_EQ(observer.rows("expert_in", e).size(), tokens.size());
    for (std::size_t t = 0; t < tokens.size(); ++t)
      EXPECT_EQ(observer.rows("expert_in", e)[t],
                observer.rows("mlp_in")[static_cast<std::size_t>(tokens[t])])
          << e << " " << t;
  }
}

// With one token, most experts see nothing; they are ready all the same.
TEST(ExpertSites, GetsExpertsReadyThatSawNothing) {
  const model::ModelFolder model(model::family_folder("qwen3_moe"));
  Tokens tokens = Reference(model::family_folder("qwen3_moe")).tokens;
  tokens.lengths_B = {1, 0};
  RecordingObserver observer;
  const Matrix<float> watched_RV = logits_of(model, tokens, {}, &observer);
  EXPECT_TRUE(same_bits(watched_RV, logits_of(model, tokens, {})));
  const auto count = [&](const char* event) {
    return std::count(observer.events().begin(), observer.events().end(), event);
  };
  EXPECT_EQ(count("expert_in ready"), 2 * 8);
  EXPECT_EQ(count("expert_out ready"), 2 * 8);
  EXPECT_EQ(count("expert_in 1"), 2 * 2);
}

// The model is the same to the bit, watched or not; the inputs of every expert's down are shown for
// all tokens.
TEST(ExpertSites, ShowAllTokensWhereAskedTo) {
  for (const char* const name : {"qwen2_moe", "glm4_moe"})
    for (const char* const device : {"cpu", "tensors"}) {
      const RunnerOptions options{.threads = 2, .device = device, .host_views = true};
      model::ModelFolder model(model::family_folder(name));
      const Tokens tokens = Reference(model::family_folder(name)).tokens;
      RecordingObserver routed;
      const Matrix<float> expected_RV = logits_of(model, tokens, options, &routed);
      model::show_all_tokens(model.family);
      std::size_t tokens_of_experts = 0;
      for (const model::BlockSpec& block : model.family.blocks)
        if (block.has_site("expert_out"))
          tokens_of_experts += static_cast<std::size_t>(tokens.ids_BS.size());
      RecordingObserver all;
      EXPECT_TRUE(same_bits(logits_of(model, tokens, options, &all), expected_RV));
      EXPECT_TRUE(same_bits(logits_of(model, tokens, options), expected_RV));
      for (Index e = 0; e < 8; ++e) {
        EXPECT_EQ(all.rows("expert_in", e).size(), 0u);
        EXPECT_EQ(all.rows("expert_out", e).size(), tokens_of_experts);
        EXPECT_LT(routed.rows("expert_out", e).size(), all.rows("expert_out", e).size());
      }
    }
}

// No fixture has all of these together: sigmoids, a bias of the scores and one of the choice,
// groups, and a factor. fp32 sums of at most 128 products, as in block_runner_test.cpp.
TEST(ExpertSites, RoutesAsDefinedOnBothRunners) {
  using model::NaiveBlock;
  const model::ModelFolder model(model::family_folder("qwen3_moe"));
  const Tokens tokens = Reference(model::family_folder("qwen3_moe")).tokens;
  model::BlockSpec block = model.family.blocks.front();
  model::BlockWeights weights = load_block(model.source, block);
  auto experts =
      std::make_shared<model::Experts>(static_cast<const model::Experts&>(*block.halves[1].mixer));
  experts->routing = {.scores = model::Routing::Scores::kSigmoid,
                      .used = 3,
                      .groups = 4,
                      .groups_used = 2,
                      .normalize = true,
                      .sum_extra = 1e-20,
                      .scale = 2.5};
  experts->router_bias = model::TensorSpec{.name = "router_bias", .shape = {8}};
  experts->choice_bias = model::TensorSpec{.name = "choice_bias", .shape = {8}};
  block.halves[1].mixer = experts;
  Matrix<float> router_bias(1, 8), choice_bias(1, 8);
  for (Index e = 0; e < 8; ++e) {
    router_bias(0, e) = 0.5f - 0.125f * static_cast<float>(e % 5);
    choice_bias(0, e) = 0.0625f * static_cast<float>(e % 3);
  }
  weights.put("router_bias", std::move(router_bias));
  weights.put("choice_bias", std::move(choice_bias));

  const std::int32_t* const ids = tokens.ids_BS.row(0);
  const model::Buffers buffers = exact_buffers(model.config);
  NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
  naive.run(naive_embedding(model, {ids, ids + 96}, buffers));
  for (const char* const device : {"cpu", "tensors"}) {
    const auto runner =
        make_block_runner(model.config, {.threads = 2, .device = device, .host_views = true});
    const auto hidden = runner->embed(tokens.ids_BS, tokens.lengths_B,
                                      model.source.load(model.family.embedding.name));
    Matrix<float> added_TH;
    RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights& current) {
      if (site.name == "mlp_in") added_TH = runner->half_output(block, current, *hidden, 1, 0);
    });
    runner->run_block(block, weights, *hidden, &observer);
    ASSERT_EQ(added_TH.rows(), 96);
    for (std::size_t t = 0; t < 96; ++t)
      for (std::size_t i = 0; i < naive.hidden[t].size(); ++i)
        ASSERT_NEAR(added_TH(static_cast<Index>(t), static_cast<Index>(i)),
                    naive.hidden[t][i] - naive.attended[t][i], 5e-4)
            << device << " row " << t << " column " << i;
  }
}

}  // namespace
}  // namespace calque::forward
