// Jobs with schemes that round the inputs of linears.
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/job/passes.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;

job::Job job_of(const TempFolder& folder, const std::string& scheme) {
  job::Job job = demo_job();
  job.calibration.packing.n_samples = 2;
  job.calibration.packing.seqlen = 64;
  job.quantization.set_method("gptq");
  job.exports = {folder_export("compressed-tensors", folder / scheme)};
  job.exports.back().scheme = scheme;
  job.publish.model_card = job.publish.checksums = false;
  job.run_dir = folder / "run";
  return job;
}

// q, k and v are one matrix to vLLM, and so are gate and up.
TEST(SchemeJob, FusedLinearsShareTheScaleOfAMatrix) {
  const TempFolder folder;
  job::Job job = job_of(folder, "FP8");
  job.evaluate = small_evaluation();
  job.evaluate->windows = 1;
  const record::Report report = run(job);
  const auto reader = formats::open_artifact(folder / "FP8");
  const auto scale = [&](const std::string& linear) {
    return reader->quantized("model.layers.0." + linear + ".weight")->groups().scales_NG(0, 0);
  };
  EXPECT_EQ(scale("self_attn.q_proj"), scale("self_attn.k_proj"));
  EXPECT_EQ(scale("self_attn.q_proj"), scale("self_attn.v_proj"));
  EXPECT_EQ(scale("mlp.gate_proj"), scale("mlp.up_proj"));
  EXPECT_NE(scale("mlp.gate_proj"), scale("mlp.down_proj"));
  const InputGrids inputs = reader->inputs();
  const float input_scale = inputs.at("model.layers.0.self_attn.q_proj.weight").scale;
  EXPECT_GT(input_scale, 0);
  EXPECT_EQ(inputs.at("model.layers.0.self_attn.v_proj.weight").scale, input_scale);
  ASSERT_EQ(report.evaluations.size(), 1u);
  EXPECT_EQ(report.evaluations.front().models.back().inputs, "FP8, calibrated");
  EXPECT_EQ(report.evaluations.front().models.front().inputs, "");
}

// FP8 scales are divided by one number for q, k and v, and by one for gate and up; inputs have room
// above what calibration has seen.
TEST(SchemeJob, FusedLinearsShareTheDivisorOfScales) {
  const TempFolder folder;
  run(job_of(folder, "NVFP4"));
  const auto reader = formats::open_artifact(folder / "NVFP4");
  const auto divisor = [&](const std::string& linear) {
    return reader->quantized("model.layers.0." + linear + ".weight")->groups().scale_divisor;
  };
  EXPECT_EQ(divisor("self_attn.q_proj"), divisor("self_attn.k_proj"));
  EXPECT_EQ(divisor("self_attn.q_proj"), divisor("self_attn.v_proj"));
  EXPECT_EQ(divisor("mlp.gate_proj"), divisor("mlp.up_proj"));
  EXPECT_NE(divisor("mlp.gate_proj"), divisor("mlp.down_proj"));
  const InputGrids inputs = reader->inputs();
  EXPECT_GT(inputs.at("model.layers.0.self_attn.q_proj.weight").scale, 0);
  EXPECT_EQ(inputs.at("model.layers.0.self_attn.q_proj.weight").scale,
            inputs.at("model.layers.0.self_attn.v_proj.weight").scale);
}

// The codes are those of W4A16, so one pass makes both; only the evaluation differs.
TEST(SchemeJob, RoundedInputsNeedNoPassOfTheirOwn) {
  const TempFolder folder;
  job::Job job = job_of(folder, "W4A16");
  job.exports.push_back(folder_export("compressed-tensors", folder / "W4AFP8"));
  job.exports.back().scheme = "W4AFP8";
  job.evaluate = small_evaluation();
  job.evaluate->windows = 1;
  const record::Report report = run(job);
  const auto& models = report.evaluations.front().models;
  ASSERT_EQ(models.size(), 3u);
  EXPECT_EQ(models[1].inputs, "");
  EXPECT_EQ(models[2].inputs, "FP8 a token");
  EXPECT_GT(models[2].divergence.kl_mean, models[1].divergence.kl_mean);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  const Matrix<float> a = formats::open_artifact(folder / "W4A16")->load(name);
  const Matrix<float> b = formats::open_artifact(folder / "W4AFP8")->load(name);
  for (Index i = 0; i < a.size(); ++i) ASSERT_EQ(a.data()[i], b.data()[i]);
}

std::string code_of_refusal(const job::Job& job) {
  try {
    run(job);
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

TEST(SchemeJob, NeedsTextForCalibratedInputsAndRowsForChannelScales) {
  const TempFolder folder;
  job::Job without_text = job_of(folder, "FP8");
  without_text.quantization.set_method("rtn");
  without_text.calibration = {};
  EXPECT_EQ(code_of_refusal(without_text), "E134");
  for (const std::string scheme : {"FP8_BLOCK", "NVFP4A16"}) {
    job::Job awq = job_of(folder, scheme);
    awq.quantization.set_method("awq");
    EXPECT_EQ(code_of_refusal(awq), "E134") << scheme;
  }
}

}  // namespace
}  // namespace calque::pipeline
