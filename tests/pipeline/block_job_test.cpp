// Exports whose matrices are rounded to GGUF's block types.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "calque/io/gguf.h"
#include "calque/io/sha256.h"
#include "calque/pipeline/quantize_model.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;

// The demo model with little text: seconds, not minutes.
Job demo_job() {
  Job job;
  job.name = "test";
  job.model.path = CALQUE_DEMO_MODEL;
  text::TextSource prose;
  prose.path = fs::path(CALQUE_CALIBRATION_DATA) / "prose.txt";
  job.calibration.sources = {prose};
  job.calibration.packing.n_samples = 48;
  job.calibration.packing.seqlen = 256;
  job.runtime.forward_dtype = "float32";
  return job;
}

artifact::ExportRequest gguf_export(const TempFolder& out, const std::string& type) {
  artifact::ExportRequest request;
  request.format = "gguf";
  request.path = out / (type + ".gguf");
  request.type = type;
  return request;
}

Report run(const Job& job) {
  Observer silent;
  return quantize_model(job, silent);
}

// Scored by the runner on what the files hold: more bits are nearer.
TEST(BlockJob, RoundsByImportance) {
  const TempFolder out;
  Job job = demo_job();
  for (const char* type : {"Q6_K", "Q4_K_M", "Q2_K", "IQ4_XS"})
    job.exports.push_back(gguf_export(out, type));
  EvaluationSettings evaluation;
  evaluation.text = fs::path(CALQUE_CALIBRATION_DATA) / "heldout_pride_and_prejudice.txt";
  evaluation.seqlen = 256;
  evaluation.windows = 8;
  job.evaluate = evaluation;
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

}  // namespace
}  // namespace calque::pipeline
