// The delta rule in chunks against its recurrence, token by token in double
// (model/naive_block.cpp).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "calque/forward/block_runner.h"
#include "forward/cpu/loops.h"
#include "forward/runner_fixture.h"
#include "model/naive_block.h"

namespace calque::forward {
namespace {

using namespace model;

// Two chunks of linears, and a chunk of the delta rule that is not full.
constexpr Index kTokens = 300;

std::vector<std::int32_t> ids_of(Index count) {
  std::vector<std::int32_t> ids;
  for (Index i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * i % 317));
  return ids;
}

// The largest difference between what a runner and the definition make of a model's first block, as
// a share of the largest hidden state.
double difference_of_first_block(const ModelFolder& model, const std::string& device,
                                 const std::function<void(BlockWeights&)>& change, Index tokens) {
  const BlockSpec& block = model.family.blocks.front();
  BlockWeights weights = load_block(model.source, block);
  change(weights);
  const std::vector<std::int32_t> ids = ids_of(tokens);
  Matrix<std::int32_t> ids_BS(1, tokens);
  std::copy(ids.begin(), ids.end(), ids_BS.data());
  const auto runner = make_block_runner(model.config, {.device = device});
  const std::vector<Index> lengths{tokens};
  const auto hidden =
      runner->embed(ids_BS, lengths, model.source.load(model.family.embedding.name));
  runner->run_block(block, weights, *hidden, nullptr);
  Matrix<float> actual_TH;
  runner->save_states(*hidden, [&](std::span<const std::byte> bytes) {
    if (!actual_TH.empty()) return;
    actual_TH = Matrix<float>::uninitialized(tokens, model.config.hidden_size);
    std::copy_n(bytes.data(), bytes.size(), reinterpret_cast<std::byte*>(actual_TH.data()));
  });

  const Buffers buffers = exact_buffers(model.config);
  NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
  naive.run(naive_embedding(model, ids, buffers));
  double largest = 0, difference = 0;
  for (Index t = 0; t < tokens; ++t)
    for (Index i = 0; i < actual_TH.cols(); ++i) {
      const double expected =
          naive.hidden[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)];
      largest = std::max(largest, std::abs(expected));
      difference = std::max(difference, std::abs(expected - static_cast<double>(actual_TH(t, i))));
    }
  return difference / largest;
}

// As for the logits of a model (block_runner_test.cpp): sums of 160 products in fp32 err by 1e-5 of
// their size at worst, several of them follow one another.
constexpr double kTolerance = 1e-4;

class DeltaNets : public ::testing::TestWithParam<std::pair<std::string, std::string>> {
 protected:
  void expect_near(const char* what, const std::function<void(BlockWeights&)>& change,
                   Index tokens = kTokens) const {
    const double difference = difference_of_first_block(model, GetParam().second, change, tokens);
    std::printf("%s on %s, %s: %.2g\n", GetParam().first.c_str(), GetParam().second.c_str(), what,
                difference);
    EXPECT_LT(difference, kTolerance) << what;
  }
  ModelFolder model{family_folder(GetParam().first)};
};
INSTANTIATE_TEST_SUITE_P(Models, DeltaNets,
                         ::testing::Values(std::pair("qwen3_next", "cpu"),
                                           std::pair("qwen3_5_vl", "cpu"),
                                           std::pair("qwen3_next", "tensors"),
                                           std::pair("qwen3_5_vl", "tensors")));

TEST_P(DeltaNets, ComputeTheRecurrenceInChunks) {
  for (const Index tokens : {Index{1}, Index{3}, Index{63}, Index{64}, Index{65}, kTokens})
    expect_near(
        std::to_string(tokens).c_str(), [](BlockWeights&) {}, tokens);
}

void fill(MatrixView<float> values, float with) { std::fill_n(values.data(), values.size(), with); }

// A state that keeps everything, one that is gone with every token, and both in turn: a decay far
// below what fp32 can tell from zero must not disturb what comes after it.
TEST_P(DeltaNets, KeepTheirPrecisionWhereStatesStayAndWhereTheyGo) {
  const auto& net = static_cast<const DeltaNet&>(*model.family.blocks.front().halves[0].mixer);
  const auto decays = [&](float speed, float bias) {
    return [&net, speed, bias](BlockWeights& weights) {
      fill(weights.at(net.decay.name), speed);
      fill(weights.at(net.dt_bias.name), bias);
    };
  };
  expect_near("kept", decays(-12.0f, -4.0f));
  expect_near("gone", decays(3.0f, 8.0f));
  expect_near("mixed", decays(3.0f, -2.0f));
}

TEST(DeltaLoops, SolveTheSystemOfAChunk) {
  Matrix<float> lower(3, 3), values(3, 70);
  lower(1, 0) = 2;
  lower(2, 0) = 1;
  lower(2, 1) = -3;
  lower(0, 2) = lower(1, 1) = 99;  // not below the diagonal
  for (Index i = 0; i < 70; ++i) {
    values(0, i) = static_cast<float>(i);
    values(1, i) = 5;
    values(2, i) = 1;
  }
  loops().substitute(lower, values);
  for (Index i = 0; i < 70; ++i) {
    const auto x = static_cast<float>(i);
    EXPECT_EQ(values(0, i), x);
    EXPECT_EQ(values(1, i), 5 - 2 * x);
    EXPECT_EQ(values(2, i), 1 - x + 3 * (5 - 2 * x));
  }
}

// e^(decays_t - decays_j) of scores 1, with decays 0, ln 1/2, ln 1/8.
TEST(DeltaLoops, WeighScoresByTheDecaysBetweenTwoTokens) {
  Matrix<float> scores(6, 3), weights(6, 3);
  fill(scores, 1.0f);
  const double decays[] = {0.0, std::log(0.5), std::log(0.125)};
  const float rates[] = {1.0f, 0.5f, 2.0f};
  loops().weigh_scores(scores, decays, rates, weights);
  const float expected[6][3] = {{1, 0, 0}, {0.5, 1, 0},    {0.125, 0.25, 1},
                                {1, 0, 0}, {0.25, 0.5, 0}, {0.25, 0.5, 2}};
  for (Index t = 0; t < 6; ++t)
    for (Index j = 0; j < 3; ++j) EXPECT_NEAR(weights(t, j), expected[t][j], 1e-6) << t << ' ' << j;
}

TEST(DeltaLoops, ConvolveWithTheLastTapOnTheTokenItself) {
  Matrix<float> x(4, 2), taps(2, 2), out(3, 2);
  for (Index t = 0; t < 4; ++t) {
    x(t, 0) = static_cast<float>(t);
    x(t, 1) = 10;
  }
  taps(0, 0) = 0.5f;  // the token before
  taps(1, 0) = 2;
  taps(0, 1) = -1;
  taps(1, 1) = 1;
  loops_of<float>().convolve(x.view(), taps.view(), out);
  for (Index t = 0; t < 3; ++t) {
    const double sum = 0.5 * static_cast<double>(t) + 2.0 * static_cast<double>(t + 1);
    EXPECT_NEAR(out(t, 0), sum / (1 + std::exp(-sum)), 1e-6);
    EXPECT_EQ(out(t, 1), 0.0f);
  }
}

}  // namespace
}  // namespace calque::forward
