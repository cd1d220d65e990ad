// Jobs that calibrate on models of the fixtures' families and write every kind of folder, which is
// read back and verified.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "calque/formats/format.h"
#include "calque/formats/plan.h"
#include "calque/formats/source.h"
#include "calque/io/safetensors.h"
#include "calque/verify/verify_artifact.h"
#include "support/demo_job.h"
#include "support/model_fixture.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;

fs::path random_ids(const fs::path& folder, Index rows, Index seqlen) {
  std::mt19937 generator(3);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows * seqlen));
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(generator() % 320);
  fs::create_directories(folder);
  io::SafetensorsWriter writer(folder, {{"input_ids", DType::kI32, {rows, seqlen}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
  return folder / "model.safetensors";
}

class FormatsOfFamilies : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, FormatsOfFamilies, ::testing::ValuesIn(model::family_folders()));

// 24 rows of 48 tokens.
job::Job gptq_job(const std::string& family, const fs::path& out) {
  job::Job job;
  job.name = "family";
  job.model.path = fs::path(test::fixtures()) / "families" / family;
  job.calibration.tokens = random_ids(out / "ids", 24, 48);
  job.calibration.packing.n_samples = 24;
  job.calibration.packing.seqlen = 48;
  job.runtime.forward_dtype = "float32";
  job.quantization.grid = {.bits = 4, .group_size = 32, .sym = false};
  job.quantization.set_method("gptq");
  job.quantization.fallback_max_modules = 100;
  return job;
}

TEST_P(FormatsOfFamilies, AreWrittenByGptqAndVerified) {
  const TempFolder out;
  job::Job job = gptq_job(GetParam(), out.path());
  for (const char* format : {"gptq", "awq", "compressed-tensors"})
    job.exports.push_back(folder_export(format, out / format));
  formats::ExportRequest gguf;
  gguf.format = "gguf";
  gguf.path = out / "out.gguf";
  gguf.type = "Q8_0";
  const bool in_gguf = GetParam() != "exaone4";  // its loaders know 64 layers only
  if (in_gguf) job.exports.push_back(gguf);
  run(job);
  for (const char* written : {"gptq", "awq", "compressed-tensors", "out.gguf"}) {
    if (!in_gguf && std::string(written) == "out.gguf") continue;
    for (const verify::Finding& finding : verify::verify_artifact({.artifact = out / written}))
      EXPECT_NE(finding.verdict, verify::Finding::Verdict::kFault)
          << written << ": " << finding.message;
  }
}

// Experts that the rules skip are copied with the tensors that hold them all, MXFP4 and biases;
// the folder computes what its parts say.
TEST(ExpertsInMxfp4, StayAsTheyAreWhereTheRulesSkipThem) {
  const TempFolder out;
  job::Job job = gptq_job("gpt_oss", out.path());
  job.quantization.grid.rules = {{.match = "model.layers.1.mlp.experts.*", .skip = true}};
  job.exports = {folder_export("gptq", out / "gptq")};
  run(job);
  const io::SafetensorsCheckpoint source(job.model.path), written(out / "gptq");
  const std::string experts = "model.layers.1.mlp.experts.";
  for (const char* stored : {"gate_up_proj_blocks", "gate_up_proj_scales", "gate_up_proj_bias",
                             "down_proj_blocks", "down_proj_scales", "down_proj_bias"}) {
    ASSERT_NE(written.find(experts + stored), nullptr) << stored;
    EXPECT_TRUE(
        std::ranges::equal(written.at(experts + stored).bytes, source.at(experts + stored).bytes))
        << stored;
  }
  // Those that are rounded have their own biases beside them.
  EXPECT_EQ(written.find("model.layers.0.mlp.experts.gate_up_proj_bias"), nullptr);
  const io::TensorRef& up = written.at("model.layers.0.mlp.experts.3.up_proj.bias");
  const std::vector<float> bias = io::to_vector(up);
  const Matrix<float> both =
      io::to_matrix(source.at("model.layers.0.mlp.experts.gate_up_proj_bias"));
  for (Index i = 0; i < 64; ++i) EXPECT_EQ(bias[static_cast<std::size_t>(i)], both(3, 2 * i + 1));
  for (const verify::Finding& finding : verify::verify_artifact({.artifact = out / "gptq"}))
    EXPECT_NE(finding.verdict, verify::Finding::Verdict::kFault) << finding.message;
}

// Their names are loaders' names for one method, and the folder has another.
TEST(ExpertsInMxfp4, AreNotWhatRuntimesLoadBesideAnotherMethod) {
  const formats::SourceModel source(fs::path(test::fixtures()) / "families" / "gpt_oss");
  formats::QuantizationRequest quantization{.group_size = 32};
  formats::ExportRequest request;
  request.format = "compressed-tensors";
  request.path = "out";
  const auto plan = [&] {
    return formats::plan_export(source.family, *source.weights, quantization, request);
  };
  EXPECT_EQ(formats::runtime_limit(plan()), "");  // all experts have one width, biases aside
  quantization.rules = {{.match = "*.experts.*", .skip = true}};
  EXPECT_THAT(plan().remarks,
              ::testing::Contains(::testing::HasSubstr("6 tensors of experts stay in MXFP4")));
  request.require.transformers = true;
  EXPECT_THAT(model::error_of(plan), ::testing::HasSubstr("stay in MXFP4"));
}

std::vector<record::ModuleReport> modules_of(const job::Job& job) {
  return run(job).artifacts.front().modules;
}

// With a top 2 of 8, some experts of glm4_moe see less than a quarter of the tokens; each sees all
// if the job says so, whatever rounds it, and no module falls back.
TEST(ExpertsOfACalibration, SeeTheTokensThatTheJobGivesThem) {
  for (const char* method : {"gptq", "awq"}) {
    const TempFolder out;
    job::Job job = gptq_job("glm4_moe", out.path());
    job.quantization.set_method(method);
    job.exports = {folder_export("compressed-tensors", out / "routed")};
    Index fewest = 24 * 48;
    for (const record::ModuleReport& module : modules_of(job))
      if (module.block >= 0) fewest = std::min(fewest, module.tokens);
    EXPECT_LT(fewest, 24 * 48 / 4);
    job.calibration.experts = job::CalibrationSettings::Experts::kAll;
    job.exports[0].path = out / "all";
    job.quantization.fallback_max_modules = 0;
    for (const record::ModuleReport& module : modules_of(job))
      EXPECT_TRUE(module.block < 0 || module.tokens == 24 * 48) << module.module;
    for (const verify::Finding& finding : verify::verify_artifact({.artifact = out / "all"}))
      EXPECT_NE(finding.verdict, verify::Finding::Verdict::kFault) << finding.message;
  }
}

}  // namespace
}  // namespace calque::pipeline
