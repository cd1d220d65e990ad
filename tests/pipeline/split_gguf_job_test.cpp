// Jobs whose GGUF export is split into shards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/artifact/reader.h"
#include "calque/artifact/verify.h"
#include "calque/core/error.h"
#include "calque/pipeline/quantize_model.h"
#include "pipeline/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;
using ::testing::HasSubstr;

Job split_job(const TempFolder& out, std::uint64_t limit) {
  Job job = demo_job();
  job.calibration = {};
  job.quantization.method = "rtn";
  artifact::ExportRequest request;
  request.format = "gguf";
  request.path = out / "demo.gguf";
  request.type = "Q8_0";
  request.split_max_bytes = limit;
  job.exports = {request};
  return job;
}

TEST(SplitGguf, IsEvaluatedAndVerifiedFromItsShards) {
  const TempFolder out;
  Job job = split_job(out, 1'000'000);
  job.evaluate = small_evaluation();
  const Report report = run(job);
  const auto files = artifact::files_at(job.exports[0]);
  ASSERT_GT(files.size(), 1u);
  std::uint64_t bytes = 0;
  for (const auto& file : files) bytes += std::filesystem::file_size(file);
  EXPECT_EQ(report.artifacts.at(0).file_bytes, bytes);
  EXPECT_LT(report.evaluations.at(0).artifact(0)->divergence.kl_mean, 0.01);
  for (const artifact::Finding& finding : artifact::verify_files(job.exports[0].path))
    EXPECT_EQ(finding.verdict, artifact::Finding::Verdict::kOk) << finding.message;
}

TEST(SplitGguf, IsNotWrittenOverShardsUnlessTold) {
  const TempFolder out;
  run(split_job(out, 1'000'000));
  Job whole = split_job(out, 0);
  try {
    plan_job(whole);
    ADD_FAILURE() << "planned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E209");
    EXPECT_THAT(error.what(), HasSubstr("demo-00001-of-"));
  }
  whole.exports[0].overwrite = true;
  run(whole);
  EXPECT_EQ(artifact::files_at(whole.exports[0]).size(), 1u);
}

}  // namespace
}  // namespace calque::pipeline
