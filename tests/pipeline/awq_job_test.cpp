#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

job::Job awq_job(const TempFolder& out) {
  job::Job job = demo_job();
  job.quantization.set_method("awq");
  job.quantization.grid.sym = false;
  job.exports = {folder_export("awq", out / "awq")};
  job.evaluate = small_evaluation();
  return job;
}

double divergence_of(job::Job job, const TempFolder& out, const std::string& name) {
  job.exports[0].path = out / name;
  return run(job).evaluations.at(0).artifact(0)->divergence.kl_mean;
}

TEST(AwqJob, DivergesLessThanRoundingToNearest) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.quantization.rounding = &quant::kRtn;
  const double awq = divergence_of(job, out, "awq");
  job.quantization.set_method("rtn");
  job.quantization.scale_rule = ScaleRule::kMinMax;
  const double rtn = divergence_of(job, out, "rtn");
  EXPECT_LT(awq, 0.9 * rtn);
  EXPECT_GT(awq, 0.0);
}

TEST(AwqJob, ScalesSomeNormsAndKeepsTheDtypeOfThem) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.evaluate.reset();
  run(job);
  const io::SafetensorsCheckpoint before(test::demo_model());
  const io::SafetensorsCheckpoint after(out / "awq");
  int changed = 0;
  for (const io::TensorRef& tensor : before.tensors()) {
    if (!tensor.name.ends_with("norm.weight")) continue;
    const io::TensorRef& folded = after.at(tensor.name);
    EXPECT_EQ(folded.dtype, tensor.dtype);
    changed += !std::equal(folded.bytes.begin(), folded.bytes.end(), tensor.bytes.begin());
  }
  EXPECT_GT(changed, 0);
}

TEST(AwqJob, SearchesWithTheLossOfTheWholeHalfToo) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.quantization.awq.loss = quant::AwqLoss::kOutput;
  job.quantization.rounding = &quant::kRtn;
  job.quantization.awq.n_grid = 6;
  const double output = divergence_of(job, out, "output");
  job.quantization.set_method("rtn");
  job.quantization.scale_rule = ScaleRule::kMinMax;
  EXPECT_LT(output, divergence_of(job, out, "rtn"));
}

TEST(AwqJob, RefusesTheOutputLossWithoutPropagatedInputs) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.quantization.awq.loss = quant::AwqLoss::kOutput;
  job.quantization.propagate_error = false;
  try {
    run(job);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E113");
    EXPECT_THAT(error.what(), HasSubstr("awq.loss: gram"));
  }
}

std::map<std::string, std::string> shard_hashes(const fs::path& folder) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() == ".safetensors")
      hashes[fs::relative(entry.path(), folder)] = io::sha256_hex_of_file(entry.path());
  return hashes;
}

TEST(AwqJob, WritesTheSameBytesWithOneAndTwoThreads) {
  const TempFolder one, two;
  for (const TempFolder* out : {&one, &two}) {
    job::Job job = awq_job(*out);
    job.evaluate.reset();
    job.runtime.threads = out == &one ? 1 : 2;
    run(job);
  }
  EXPECT_EQ(shard_hashes(one.path()), shard_hashes(two.path()));
}

// One rounding in three containers: what a reader gets is the same to the last bit.
TEST(AwqJob, OnePassFillsEveryContainerThatHoldsTheGrid) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.evaluate.reset();
  job.exports = {folder_export("awq", out / "awq"), folder_export("compressed-tensors", out / "ct"),
                 folder_export("gptq", out / "gptq")};
  for (formats::ExportRequest& request : job.exports) request.scale_dtype = "bfloat16";
  const record::Report report = run(job);
  EXPECT_EQ(report.artifacts[0].modules[0].seconds, report.artifacts[2].modules[0].seconds);
  const auto awq = formats::open_artifact(out / "awq");
  for (const char* other : {"ct", "gptq"}) {
    const auto reader = formats::open_artifact(out / other);
    for (const formats::StoredTensor& tensor : awq->tensors()) {
      const Matrix<float> a = awq->load(tensor.name);
      const Matrix<float> b = reader->load(tensor.name);
      EXPECT_TRUE(std::equal(a.data(), a.data() + a.size(), b.data())) << tensor.name << other;
    }
  }
}

// Folds through modules that stay unrounded (v makes o's inputs, q reads the norm) keep the
// function.
TEST(AwqJob, LeavesTheFunctionAloneWhereModulesAreSkipped) {
  const TempFolder out;
  job::Job job = awq_job(out);
  job.quantization.grid.bits = 8;
  job.quantization.rounding = &quant::kRtn;
  job.exports = {folder_export("compressed-tensors", out / "ct")};
  const double without_rules = divergence_of(job, out, "all");
  job.quantization.grid.rules = {{.match = "*.layers.1.*", .skip = true},
                                 {.match = "*.v_proj", .skip = true},
                                 {.match = "re:.*layers.2.self_attn.q_proj", .skip = true},
                                 {.match = "*.up_proj", .skip = true}};
  // Fewer roundings, so not more error; a fold that lost its other side would show by far.
  EXPECT_LT(divergence_of(job, out, "skipped"), 1.2 * without_rules);
}

}  // namespace
}  // namespace calque::pipeline
