#include "calque/pipeline/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"
#include "calque/pipeline/open_job.h"
#include "support/damage.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

job::Job small_job(const TempFolder& out) {
  job::Job job = demo_job();
  job.exports = {folder_export("gptq", out / "gptq")};
  return job;
}

std::map<std::string, std::string> hashes_in(const fs::path& folder) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      hashes[fs::relative(entry.path(), folder)] = io::sha256_hex_of_file(entry.path());
  return hashes;
}

TEST(QuantizeModel, GptqDivergesLessThanRoundingToNearest) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.evaluate = small_evaluation();
  const double gptq = run(job).evaluations.at(0).artifact(0)->divergence.kl_mean;

  job.exports[0].path = out / "rtn";
  job.quantization.set_method("rtn");
  job.quantization.scale_rule = ScaleRule::kMinMax;
  job.calibration = {};
  const double rtn = run(job).evaluations.at(0).artifact(0)->divergence.kl_mean;
  EXPECT_LT(gptq, 0.8 * rtn);
  EXPECT_GT(gptq, 0.0);
}

TEST(QuantizeModel, EveryFormatIsReadBackCloseToTheOriginal) {
  const TempFolder out;
  job::Job job = small_job(out);
  for (const char* type : {"F16", "Q8_0", "Q5_1", "Q4_0"})
    job.exports.push_back(gguf_export(out, type));
  job.evaluate = small_evaluation();
  const record::Report report = run(job);
  ASSERT_EQ(report.evaluations.at(0).models.size(), 6u);
  std::map<std::string, double> kl;
  for (const auto& metrics : report.evaluations.at(0).models)
    kl[metrics.label] = metrics.divergence.kl_mean;
  // The source is fp16, so nothing is lost; more bits are nearer.
  EXPECT_EQ(kl.at("F16.gguf"), 0.0);
  EXPECT_LT(kl.at("Q8_0.gguf"), kl.at("Q5_1.gguf"));
  EXPECT_LT(kl.at("Q5_1.gguf"), kl.at("Q4_0.gguf"));
  EXPECT_LT(kl.at("Q4_0.gguf"), 0.2);
}

TEST(QuantizeModel, WritesTheSameBytesWithOneAndTwoThreads) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.exports.push_back(gguf_export(out, "Q4_0"));
  for (const char* dtype : {"float32", "bfloat16"}) {
    job.runtime.forward_dtype = dtype;
    std::map<std::string, std::string> hashes[2];
    for (const int threads : {1, 2}) {
      job.runtime.threads = threads;
      for (auto& request : job.exports) request.overwrite = true;
      run(job);
      hashes[threads - 1] = hashes_in(out.path());
    }
    EXPECT_EQ(hashes[0], hashes[1]) << dtype;
  }
}

TEST(QuantizeModel, SharesOnePassBetweenExportsOnTheSameGrid) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.exports.push_back(job.exports[0]);
  job.exports[1].path = out / "again";
  const record::Report report = run(job);
  EXPECT_EQ(hashes_in(out / "gptq"), hashes_in(out / "again"));
  EXPECT_EQ(report.artifacts[0].modules.size(), 42u);  // 6 blocks x 7 linears
  EXPECT_EQ(report.artifacts[0].modules[0].seconds, report.artifacts[1].modules[0].seconds);
}

TEST(QuantizeModel, PropagatingErrorChangesOnlyWhatComesLater) {
  const TempFolder out;
  job::Job job = small_job(out);
  run(job);
  job.quantization.propagate_error = false;
  job.exports[0].path = out / "independent";
  run(job);
  const auto with = formats::open_artifact(out / "gptq");
  const auto without = formats::open_artifact(out / "independent");
  const auto same = [&](const std::string& name) {
    const Matrix<float> a = with->load(name);
    const Matrix<float> b = without->load(name);
    return std::equal(a.data(), a.data() + a.size(), b.data());
  };
  EXPECT_TRUE(same("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_FALSE(same("model.layers.0.self_attn.o_proj.weight"));
  EXPECT_FALSE(same("model.layers.3.mlp.down_proj.weight"));
}

TEST(QuantizeModel, ReportsEveryStageAndSize) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.evaluate = small_evaluation();
  job.run_dir = out / "run";
  const record::Report report = run(job);
  EXPECT_GT(report.stages.forward, 0.0);
  EXPECT_GT(report.stages.statistics, 0.0);
  EXPECT_GT(report.stages.quantize, 0.0);
  EXPECT_GT(report.peak_bytes, 50u << 20);
  EXPECT_EQ(report.artifacts[0].plan.tensor_bytes < report.source_bytes, true);
  std::uint64_t stored = 0;
  for (const auto& tensor : formats::open_artifact(out / "gptq")->tensors()) stored += tensor.bytes;
  EXPECT_EQ(report.artifacts[0].plan.tensor_bytes, stored);
  const std::string csv = io::read_file((out / "run") / "modules.csv");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 43);
  const std::string metrics = io::read_file((out / "run") / "metrics.json");
  EXPECT_THAT(metrics, HasSubstr("kl_mean"));
  EXPECT_THAT(metrics, HasSubstr("\"stage_devices\""));
  EXPECT_THAT(io::read_file((out / "run") / "log.jsonl"), HasSubstr("\"event\":\"done\""));
}

TEST(QuantizeModel, RefusesTooLittleTextAndLeavesNothing) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.calibration.packing.n_samples = 100000;
  EXPECT_THAT(message_of(job), ::testing::AllOf(HasSubstr("E201"), HasSubstr("100000 x 256"),
                                                HasSubstr("n_samples")));
  EXPECT_TRUE(fs::is_empty(out.path()));
}

TEST(QuantizeModel, RefusesATextOfTheEvaluationThatIsTooShortBeforeWork) {
  const TempFolder out;
  job::Job job = small_job(out);
  io::write_file(out / "short.txt", "Hello");
  job.evaluate = job::EvaluationSettings{.texts = {{.text = out / "short.txt"}}};
  EXPECT_THAT(message_of(job), ::testing::AllOf(HasSubstr("E201"), HasSubstr("short.txt")));
  EXPECT_FALSE(fs::exists(out / "gptq"));
}

TEST(QuantizeModel, RefusesRowsThatOnlyHoldTheBosWhenItIsOpened) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.calibration.packing.seqlen = 1;
  try {
    open_job(job);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E106");
    EXPECT_THAT(error.what(), HasSubstr("1 special token;"));
  }
}

TEST(QuantizeModel, RefusesTwoExportsOfOnePathThatItWouldLockItself) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.run_dir = out / "run";
  job.exports.push_back(job.exports.front());
  EXPECT_THAT(message_of(job), HasSubstr("E208"));
}

TEST(QuantizeModel, RefusesAnExistingTargetBeforeWork) {
  const TempFolder out;
  job::Job job = small_job(out);
  fs::create_directory(out / "gptq");
  EXPECT_THAT(message_of(job), ::testing::AllOf(HasSubstr("E209"), HasSubstr("overwrite")));
}

TEST(QuantizeModel, RefusesWindowsLongerThanTheModel) {
  const TempFolder out;
  job::Job job = small_job(out);
  job.calibration.packing.seqlen = 1024;
  EXPECT_THAT(message_of(job), ::testing::AllOf(HasSubstr("calibration.seqlen"), HasSubstr("512")));
}

// A copy of the demo model in which one tensor is changed or left out.
void copy_model(const fs::path& to, const std::string& victim, bool drop) {
  fs::create_directories(to);
  for (const char* file : {"config.json", "tokenizer.model", "tokenizer_config.json"})
    io::copy_file(fs::path(test::demo_model()) / file, to / file);
  const io::SafetensorsCheckpoint source(test::demo_model());
  std::vector<io::TensorDeclaration> declarations;
  for (const io::TensorRef& tensor : source.tensors())
    if (!drop || tensor.name != victim)
      declarations.push_back({tensor.name, tensor.dtype, tensor.shape});
  io::SafetensorsWriter writer(to, declarations);
  for (const io::TensorRef& tensor : source.tensors())
    if (!drop || tensor.name != victim) writer.write(tensor.name, tensor.bytes);
  writer.finish();
  if (!drop)
    test::overwrite_element(to / "model.safetensors", victim, 1000,
                            std::numeric_limits<float>::quiet_NaN());
}

TEST(QuantizeModel, NamesTheTensorWithANanAndLeavesNothing) {
  const TempFolder out;
  const TempFolder model;
  copy_model(model / "m", "model.layers.2.mlp.up_proj.weight", false);
  job::Job job = small_job(out);
  job.model.path = model / "m";
  EXPECT_THAT(message_of(job), HasSubstr("model.layers.2.mlp.up_proj.weight"));
  EXPECT_TRUE(fs::is_empty(out.path()));
}

TEST(QuantizeModel, NamesAMissingTensorBeforeWork) {
  const TempFolder out;
  const TempFolder model;
  copy_model(model / "m", "model.layers.4.self_attn.k_proj.weight", true);
  job::Job job = small_job(out);
  job.model.path = model / "m";
  EXPECT_THAT(message_of(job), HasSubstr("model.layers.4.self_attn.k_proj.weight"));
}

}  // namespace
}  // namespace calque::pipeline
