#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "calque/forward/block_runner.h"
#include "forward/runner_fixture.h"

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

}  // namespace
}  // namespace calque::forward
