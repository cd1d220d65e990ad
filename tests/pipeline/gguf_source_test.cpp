// Jobs that start from a GGUF file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"
#include "calque/io/text_lines.h"
#include "calque/text/tokenizer.h"
#include "calque/verify/verify_artifact.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using verify::probe_prompt;

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

const fs::path kGolden = fs::path(test::fixtures()) / "artifacts" / "gguf";
const fs::path kProse = fs::path(test::calibration_data()) / "heldout_pride_and_prejudice.txt";

job::Job tiny_job(const fs::path& model, const fs::path& out, const std::string& type) {
  job::Job job;
  job.name = "test";
  job.model.path = model;
  job.quantization.set_method("rtn");
  job.exports = {gguf_export(out, type)};
  return job;
}

std::string error_of(const job::Job& job) {
  try {
    run(job);
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "";
}

// gpt-oss was published so: nothing is lost, and no key has to allow it. Rounded into a folder, its
// experts come out as from the checkpoint.
TEST(JobsFromMxfp4, KeepItsBits) {
  const TempFolder folder;
  const fs::path model = fs::path(test::fixtures()) / "families" / "gpt_oss";
  const auto written = [&](const fs::path& from, const std::string& name) {
    job::Job job = tiny_job(from, folder / (name + ".gguf"), "F32");
    job.exports[0].tensor_types = {{"_exps.weight", "MXFP4"}};
    job.exports.push_back(folder_export("gptq", folder / name));
    job.quantization.grid = {.bits = 4, .group_size = 32};
    run(job);
  };
  written(model, "first");
  written(folder / "first.gguf", "second");
  const io::GgufFile first(folder / "first.gguf"), second(folder / "second.gguf");
  ASSERT_EQ(first.tensors().size(), second.tensors().size());
  for (const io::GgufTensor& tensor : first.tensors())
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, second.find_tensor(tensor.name)->bytes))
        << tensor.name;
  const io::SafetensorsCheckpoint here(folder / "first"), there(folder / "second");
  for (const io::TensorRef& tensor : here.tensors()) {
    if (!tensor.name.ends_with("qweight")) continue;
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, there.at(tensor.name).bytes)) << tensor.name;
  }
}

class RequantizedByLlamaCppsRules : public ::testing::TestWithParam<const char*> {};

// The bytes of llama-quantize, from the same file; see tests/fixtures/gguf/README.md.
TEST_P(RequantizedByLlamaCppsRules, IsTheSameFile) {
  const TempFolder folder;
  run(tiny_job(kGolden / "tiny-f16.gguf", folder / "out.gguf", GetParam()));
  const io::GgufFile file(folder / "out.gguf");
  const auto golden = io::parse_json(io::read_file(
      test::fixtures() + "/gguf/llama_quantize.json"))["tiny-" + std::string(GetParam())];
  ASSERT_EQ(golden.at("tensors").size(), file.tensors().size());
  for (const auto& [name, expected] : golden.at("tensors").members()) {
    const io::GgufTensor* tensor = file.find_tensor(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(ggml::info_of(tensor->type).name, expected.at("type").get<std::string>()) << name;
    EXPECT_EQ(io::sha256_hex(tensor->bytes), expected.at("sha256").get<std::string>()) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RequantizedByLlamaCppsRules,
                         ::testing::Values("Q4_K_M", "Q2_K", "IQ4_XS"));

// The demo model, exported whole; then a job that knows the file only.
class DemoAsGguf : public ::testing::Test {
 protected:
  DemoAsGguf() { run(tiny_job(test::demo_model(), model_, "F16")); }

  TempFolder folder_;
  fs::path model_ = folder_ / "demo.gguf";
};

TEST_F(DemoAsGguf, TokenizesAsTheFolder) {
  const auto ours = text::load_tokenizer(model_);
  const auto theirs = text::load_tokenizer(test::demo_model());
  const std::string prose = io::read_text(kProse);
  EXPECT_EQ(ours->encode(prose), theirs->encode(prose));
  EXPECT_EQ(ours->prefix(), theirs->prefix());
}

TEST_F(DemoAsGguf, IsQuantizedAndMeasuredAsTheFolder) {
  job::Job job = demo_job();
  job.exports = {gguf_export(folder_ / "a.gguf", "Q4_K_M")};
  job.evaluate = small_evaluation();
  const record::Report from_folder = run(job);
  job.model.path = model_;
  job.exports = {gguf_export(folder_ / "b.gguf", "Q4_K_M")};
  const record::Report from_file = run(job);
  EXPECT_EQ(from_file.calibration.first_ids, from_folder.calibration.first_ids);
  EXPECT_EQ(from_file.calibration.tokens_sha256, from_folder.calibration.tokens_sha256);
  // The folder's BF16 weights are binary16 numbers here but for the smallest, which F16 rounds.
  ASSERT_EQ(from_file.evaluations.at(0).models.size(), 2u);
  EXPECT_NEAR(from_file.evaluations.at(0).models[0].perplexity_hf.value,
              from_folder.evaluations.at(0).models[0].perplexity_hf.value, 1e-2);
  EXPECT_NEAR(from_file.evaluations.at(0).models[1].divergence.kl_mean,
              from_folder.evaluations.at(0).models[1].divergence.kl_mean,
              0.2 * from_folder.evaluations.at(0).models[1].divergence.kl_mean);
}

TEST_F(DemoAsGguf, IsVerifiedWithAPromptOfItsOwnTokenizer) {
  const auto ids = probe_prompt(model_, 4096);
  EXPECT_EQ(ids, probe_prompt(test::demo_model(), 4096));
}

TEST(GgufSourceJob, RefusesQuantizedModelsUnlessAllowed) {
  const TempFolder folder;
  job::Job job = tiny_job(kGolden / "tiny-1layer-Q4_0.gguf", folder / "out.gguf", "Q8_0");
  EXPECT_THAT(error_of(job), HasSubstr("E169: "));
  EXPECT_THAT(error_of(job), HasSubstr("model.allow_requantize: true"));
  EXPECT_FALSE(fs::exists(folder / "out.gguf"));
  job.model.allow_requantize = true;
  const record::Report report = run(job);
  EXPECT_EQ(io::GgufFile(folder / "out.gguf").integer("general.file_type"), 7);
  EXPECT_LT(report.source_bits_per_weight, 8.0);
}

// The evaluation text is only read at the end, but its tokenizer is checked first.
TEST(GgufSourceJob, RefusesTextForAModelWithoutTokenizer) {
  const TempFolder folder;
  const io::GgufFile tiny(kGolden / "tiny-f16.gguf");
  io::GgufMetadata keys;
  for (const auto& [key, value] : tiny.metadata())
    if (!key.starts_with("tokenizer.")) keys.emplace_back(key, value);
  std::vector<io::GgufTensorDeclaration> declared;
  for (const io::GgufTensor& tensor : tiny.tensors())
    declared.push_back({tensor.name, tensor.type, tensor.ne});
  io::GgufWriter writer(folder / "model.gguf", keys, declared);
  for (const io::GgufTensor& tensor : tiny.tensors()) writer.write(tensor.name, tensor.bytes);
  writer.finish();

  job::Job job = tiny_job(folder / "model.gguf", folder / "out.gguf", "Q8_0");
  job.evaluate = small_evaluation();
  EXPECT_THAT(error_of(job), HasSubstr("the file holds no tokenizer"));
  EXPECT_FALSE(fs::exists(folder / "out.gguf"));

  job.evaluate.reset();
  const record::Report report = run(job);
  ASSERT_EQ(report.warnings.size(), 1u);
  EXPECT_THAT(report.warnings[0], HasSubstr("the model has no tokenizer"));
  EXPECT_EQ(io::GgufFile(folder / "out.gguf").string("tokenizer.ggml.model"), "none");
}

}  // namespace
}  // namespace calque::pipeline
