#include "calque/job/presets.h"

#include <gtest/gtest.h>

#include "calque/job/job.h"
#include "calque/job/passes.h"

namespace calque::job {
namespace {

Job calibrated_job(const Preset& preset) {
  Job job;
  job.calibration.tokens = "tokens.safetensors";
  job.quantization.preset = &preset;
  return job;
}

formats::ExportPlan plan_of_one_linear(int bits) {
  formats::ExportPlan plan;
  formats::TensorPlan& tensor = plan.tensors.emplace_back();
  tensor.in_block_linear = true;
  tensor.grid.emplace();
  tensor.grid->bits = bits;
  return plan;
}

double correction(const Preset& preset, int bits) {
  return upstream_correction_for(calibrated_job(preset), plan_of_one_linear(bits));
}

TEST(Presets, BalancedIsTheDefault) {
  EXPECT_EQ(QuantizationSettings().preset, &kBalanced);
  EXPECT_EQ(QuantizationSettings().rounding_options().refine_passes,
            quant::RoundingOptions().refine_passes);
}

TEST(Presets, FastNeverRunsTheOriginalBeside) {
  EXPECT_EQ(correction(kFast, 2), 0);
  EXPECT_EQ(correction(kFast, 4), 0);
}

TEST(Presets, BalancedRunsItBelowFourBits) {
  EXPECT_EQ(correction(kBalanced, 3), 1);
  EXPECT_EQ(correction(kBalanced, 4), 0);
}

TEST(Presets, BestRunsItAtEveryWidth) {
  EXPECT_EQ(correction(kBest, 4), 1);
  EXPECT_EQ(correction(kBest, 8), 1);
}

TEST(Presets, BestAlsoRunsItWithChannelScales) {
  Job job = calibrated_job(kBest);
  job.quantization.set_method("awq");
  EXPECT_EQ(upstream_correction_for(job, plan_of_one_linear(4)), 1);
}

TEST(Presets, AskForNoCorrectionThatTheMethodCannotMake) {
  Job job = calibrated_job(kBest);
  job.quantization.set_method("rtn");
  EXPECT_EQ(upstream_correction_for(job, plan_of_one_linear(4)), 0);
  EXPECT_NO_THROW(check_upstream_settings(job));
}

TEST(Presets, GiveWayToKeysThatAreSaid) {
  Job job = calibrated_job(kBest);
  job.quantization.upstream_correction = 0;
  job.quantization.refine_passes = 7;
  EXPECT_EQ(upstream_correction_for(job, plan_of_one_linear(4)), 0);
  EXPECT_EQ(job.quantization.rounding_options().refine_passes, 7);
  EXPECT_EQ(job.quantization.plain_options().refine_passes, 7);
}

}  // namespace
}  // namespace calque::job
