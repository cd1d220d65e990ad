#include "calque/forecast/work.h"

#include <gtest/gtest.h>

#include "calque/forecast/time.h"
#include "calque/forward/cost.h"
#include "calque/kernels/inverse_cholesky.h"
#include "calque/record/stages.h"
#include "forecast/shapes_only.h"

namespace calque::forecast {
namespace {

using namespace pipeline;
using namespace record;

// By hand for the first of two layers: q, o [64, 64], k, v [32, 64], gate, up [192, 64], down
// [64, 192]; 4 rows of 32 tokens.
TEST(StageWork, IsWhatOneLayerTakesByHand) {
  const model::FamilySpec family = tiny_family(2);
  const job::Job job = tiny_job();
  const auto plans = gptq_plan(family);
  const Work work = block_work(job, family, plans.front(), family.blocks.front(), 1);
  const double tokens = 4 * 32;
  const double into_64 = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 192 * 64, into_192 = 64 * 192;
  EXPECT_EQ(work[WorkKind::kLinears], 2 * tokens * (into_64 + into_192));
  // 4 heads of 16 channels, scores and sums of values: 4 * 64 operations a key; 32 * 33 / 2 keys.
  EXPECT_EQ(work[WorkKind::kAttention], 4 * 64 * 4 * (32 * 33 / 2));
  EXPECT_EQ(work[WorkKind::kScores], 4 * 4 * (32 * 33 / 2));
  EXPECT_EQ(work[WorkKind::kGram], tokens * (3 * 64 * 65 + 192 * 193));
  EXPECT_NEAR(work[WorkKind::kDoubleFactorisation],
              2.0 / 3 * (3 * 64.0 * 64 * 64 + 192.0 * 192 * 192), 1e-6);
  EXPECT_EQ(work[WorkKind::kFactorisation], 0);
  const double sweep = into_64 * 64 + into_192 * 192;
  EXPECT_EQ(work[WorkKind::kSweep], sweep);
  EXPECT_EQ(work[WorkKind::kRefinement], 2 * sweep * (1 + 4));
  EXPECT_EQ(work[WorkKind::kEnergies], 2 * sweep);
  EXPECT_EQ(work[WorkKind::kSearchedWeights], into_64 + into_192);
  EXPECT_EQ(work[WorkKind::kPackedWeights], into_64 + into_192);
}

// Hidden states of 256 channels, which the kernel factorises in double, and an MLP of 288,
// which it does not.
TEST(StageWork, CountsFactorisationsInThePrecisionThatTheyAreDoneIn) {
  model::ModelConfig config = tiny_config(1);
  config.hidden_size = 256;
  const auto factorised = [&](Index channels) {
    config.intermediate_size = channels;
    const model::FamilySpec family = model::family_of(config);
    return block_work(tiny_job(), family, gptq_plan(family).front(), family.blocks.front(), 1);
  };
  const auto cubed = [](double K) { return 2.0 / 3 * K * K * K; };
  // attn_in, attn_out (4 heads of 16 channels) and mlp_in stay what they are.
  const double others = 2 * cubed(256) + cubed(64);
  ASSERT_EQ(kLargestInDouble, 256);
  const Work small = factorised(256), large = factorised(288);
  EXPECT_NEAR(small[WorkKind::kDoubleFactorisation], others + cubed(256), 1);
  EXPECT_EQ(small[WorkKind::kFactorisation], 0);
  EXPECT_NEAR(large[WorkKind::kDoubleFactorisation], others, 1);
  EXPECT_NEAR(large[WorkKind::kFactorisation], cubed(288), 1);
}

// Nothing reads what the last layer puts out: its down_proj is measured and does not run.
TEST(StageWork, LeavesOutTheLastLinearOfTheLastLayer) {
  const model::FamilySpec family = tiny_family(2);
  const job::Job job = tiny_job();
  const auto plans = gptq_plan(family);
  const Work first = block_work(job, family, plans.front(), family.blocks.front(), 1);
  const Work last = block_work(job, family, plans.front(), family.blocks.back(), 1);
  EXPECT_EQ(first[WorkKind::kLinears] - last[WorkKind::kLinears], 2.0 * 4 * 32 * 64 * 192);
  EXPECT_EQ(first[WorkKind::kGram], last[WorkKind::kGram]);
}

TEST(StageWork, RunsTheOriginalBesideWhereErrorsUpstreamAreCorrected) {
  const model::FamilySpec family = tiny_family(2);
  job::Job job = tiny_job();
  const auto plans = gptq_plan(family);
  const Work plain = block_work(job, family, plans.front(), family.blocks.front(), 1);
  job.quantization.upstream_correction = 1.0;
  const Work corrected = block_work(job, family, plans.front(), family.blocks.front(), 1);
  EXPECT_EQ(corrected[WorkKind::kLinears], 2 * plain[WorkKind::kLinears]);
  EXPECT_EQ(corrected[WorkKind::kAttention], 2 * plain[WorkKind::kAttention]);
  EXPECT_EQ(corrected[WorkKind::kShift], 2.0 * 4 * 32 * (3 * 64 * 64 + 192 * 192));
  EXPECT_EQ(corrected[WorkKind::kSweep], plain[WorkKind::kSweep]);
}

TEST(StageWork, SlidingWindowsSeeFewerKeys) {
  EXPECT_EQ(forward::visible_keys(4, 0), 1 + 2 + 3 + 4);
  EXPECT_EQ(forward::visible_keys(4, 2), 1 + 2 + 2 + 2);
  EXPECT_EQ(forward::visible_keys(4, 9), forward::visible_keys(4, 0));
}

double seconds_of(const job::Job& job, Index layers) {
  const model::FamilySpec family = tiny_family(layers);
  return predict_time(job, family, gptq_plan(family), {1e11, 1e11}).seconds;
}

TEST(PredictTime, GrowsWithLayersTokensAndWindows) {
  job::Job job = tiny_job();
  const double before = seconds_of(job, 2);
  EXPECT_GT(seconds_of(job, 3), before);
  job.calibration.packing.n_samples *= 2;
  const double more_rows = seconds_of(job, 2);
  EXPECT_GT(more_rows, before);
  job.calibration.packing.seqlen *= 2;
  EXPECT_GT(seconds_of(job, 2), more_rows);
  job = tiny_job();
  job.evaluate = job::EvaluationSettings{
      .texts = {{.tokens = "tokens.safetensors"}}, .seqlen = 32, .windows = 4};
  const double evaluated = seconds_of(job, 2);
  EXPECT_GT(evaluated, before);
  job.evaluate->windows = 8;
  EXPECT_GT(seconds_of(job, 2), evaluated);
}

TEST(PredictTime, HalvesWithAMachineTwiceAsFast) {
  const model::FamilySpec family = tiny_family(2);
  const auto plans = gptq_plan(family);
  const auto stages = [&](double rate) {
    return sum(predict_time(tiny_job(), family, plans, {rate, rate}).stages);
  };
  EXPECT_DOUBLE_EQ(stages(1e11), 2 * stages(2e11));
}

TEST(PredictTime, CorrectsEachStageByWhatAPartOfItTook) {
  record::StageSeconds predicted, expected, measured;
  predicted.forward = 10;
  predicted.quantize = 5;
  predicted.evaluate = 7;
  expected.forward = 2;
  measured.forward = 3;
  expected.quantize = 1;
  measured.quantize = 0.001;  // too short to tell
  const record::StageSeconds corrected_stages = corrected(predicted, expected, measured);
  EXPECT_DOUBLE_EQ(corrected_stages.forward, 15);
  EXPECT_DOUBLE_EQ(corrected_stages.quantize, 5);
  EXPECT_DOUBLE_EQ(corrected_stages.evaluate, 7);
}

}  // namespace
}  // namespace calque::forecast
