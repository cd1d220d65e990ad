// Exports whose matrices are rounded to GGUF's block types.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "calque/io/gguf.h"
#include "calque/io/sha256.h"
#include "pipeline/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;

artifact::ExportRequest gguf_export(const TempFolder& out, const std::string& type) {
  artifact::ExportRequest request;
  request.format = "gguf";
  request.path = out / (type + ".gguf");
  request.type = type;
  return request;
}

// Scored by the runner on what the files hold: more bits are nearer.
TEST(BlockJob, RoundsByImportance) {
  const TempFolder out;
  Job job = demo_job();
  for (const char* type : {"Q6_K", "Q4_K_M", "Q2_K", "IQ4_XS"})
    job.exports.push_back(gguf_export(out, type));
  job.evaluate = small_evaluation();
  const Report report = run(job);
  std::map<std::string, double> kl;
  for (const auto& metrics : report.metrics) kl[metrics.label] = metrics.divergence.kl_mean;
  EXPECT_GT(kl.at("Q6_K.gguf"), 0.0);
  EXPECT_LT(kl.at("Q6_K.gguf"), kl.at("Q4_K_M.gguf"));
  EXPECT_LT(kl.at("Q4_K_M.gguf"), kl.at("Q2_K.gguf"));
  EXPECT_LT(kl.at("IQ4_XS.gguf"), kl.at("Q2_K.gguf"));
  for (const ArtifactReport& artifact : report.artifacts)
    for (const ModuleReport& module : artifact.modules) {
      EXPECT_EQ(module.rounding.method, module.block < 0 ? "rtn" : "imatrix") << module.module;
      EXPECT_EQ(module.rounding.fallback_reason, "") << module.module;
    }
}

TEST(BlockJob, WritesTheSameBytesWithOneAndTwoThreads) {
  const TempFolder out;
  Job job = demo_job();
  job.exports = {gguf_export(out, "Q4_K_M")};
  job.exports[0].overwrite = true;
  std::string hashes[2];
  for (const int threads : {1, 2}) {
    job.runtime.threads = threads;
    run(job);
    hashes[threads - 1] = io::sha256_hex_of_file(job.exports[0].path);
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

// Block types cannot take channel scales, so awq comes down to their own rounding.
TEST(BlockJob, ScalesNoChannels) {
  const TempFolder out;
  Job job = demo_job();
  std::map<std::string, std::string> sha256;
  for (const char* method : {"awq", "rtn"}) {
    job.exports = {gguf_export(out, "Q4_K_M")};
    job.exports[0].overwrite = true;
    job.quantization.method = method;
    run(job);
    const io::GgufFile file(job.exports[0].path);
    for (const io::GgufTensor& tensor : file.tensors())
      sha256[tensor.name] += io::sha256_hex(tensor.bytes) + " ";
  }
  EXPECT_GT(sha256.size(), 50u);
  for (const auto& [name, both] : sha256) EXPECT_EQ(both.substr(0, 65), both.substr(65)) << name;
}

TEST(BlockJob, SaysThatChannelScalesAreNotUsedAndHowItRounded) {
  const TempFolder out;
  Job job = demo_job();
  job.calibration.packing.n_samples = 4;
  job.quantization.method = "awq";
  job.exports = {gguf_export(out, "Q4_K_M")};
  const Report report = run(job);
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_NE(report.warnings[0].find("takes no channel scales"), std::string::npos);
  const io::GgufFile file(out / "Q4_K_M.gguf");
  const io::GgufValue* method = file.find("calque.method");
  ASSERT_NE(method, nullptr);
  EXPECT_EQ(std::get<std::string>(std::get<io::GgufValue::Scalar>(method->value)), "imatrix");
}

}  // namespace
}  // namespace calque::pipeline
