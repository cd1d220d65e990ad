// Jobs whose GGUF export is split into shards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/pipeline/open_job.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/verify/verify.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;
using ::testing::HasSubstr;

job::Job split_job(const TempFolder& out, std::uint64_t limit) {
  job::Job job = demo_job();
  job.calibration = {};
  job.quantization.set_method("rtn");
  formats::ExportRequest request;
  request.format = "gguf";
  request.path = out / "demo.gguf";
  request.type = "Q8_0";
  request.split_max_bytes = limit;
  job.exports = {request};
  return job;
}

TEST(SplitGguf, IsEvaluatedAndVerifiedFromItsShards) {
  const TempFolder out;
  job::Job job = split_job(out, 1'000'000);
  job.evaluate = small_evaluation();
  const record::Report report = run(job);
  const auto files = formats::files_at(job.exports[0]);
  ASSERT_GT(files.size(), 1u);
  std::uint64_t bytes = 0;
  for (const auto& file : files) bytes += std::filesystem::file_size(file);
  EXPECT_EQ(report.artifacts.at(0).file_bytes, bytes);
  EXPECT_LT(report.evaluations.at(0).artifact(0)->divergence.kl_mean, 0.01);
  for (const verify::Finding& finding : verify::verify_files(job.exports[0].path))
    EXPECT_EQ(finding.verdict, verify::Finding::Verdict::kOk) << finding.message;
}

TEST(SplitGguf, IsNotWrittenOverShardsUnlessTold) {
  const TempFolder out;
  run(split_job(out, 1'000'000));
  job::Job whole = split_job(out, 0);
  try {
    open_job(whole);
    ADD_FAILURE() << "planned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E209");
    EXPECT_THAT(error.what(), HasSubstr("demo-00001-of-"));
  }
  whole.exports[0].overwrite = true;
  run(whole);
  EXPECT_EQ(formats::files_at(whole.exports[0]).size(), 1u);
}

}  // namespace
}  // namespace calque::pipeline
