#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "calque/artifact/reader.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"
#include "calque/model/weight_source.h"
#include "calque/pipeline/quantize_model.h"
#include "pipeline/probe.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

Report run(const Job& job) {
  Observer silent;
  return quantize_model(job, silent);
}

artifact::ExportRequest folder_export(const std::string& format, const fs::path& path) {
  artifact::ExportRequest request;
  request.format = format;
  request.path = path;
  return request;
}

// The demo model with little text: seconds, not minutes.
Job awq_job(const TempFolder& out) {
  Job job;
  job.name = "test";
  job.model.path = CALQUE_DEMO_MODEL;
  text::TextSource prose;
  prose.path = fs::path(CALQUE_CALIBRATION_DATA) / "prose.txt";
  job.calibration.sources = {prose};
  job.calibration.packing.n_samples = 48;
  job.calibration.packing.seqlen = 256;
  job.runtime.forward_dtype = "float32";
  job.quantization.method = "awq";
  job.quantization.grid.sym = false;
  job.exports = {folder_export("awq", out / "awq")};
  EvaluationSettings evaluation;
  evaluation.text = fs::path(CALQUE_CALIBRATION_DATA) / "heldout_pride_and_prejudice.txt";
  evaluation.seqlen = 256;
  evaluation.windows = 8;
  job.evaluate = evaluation;
  return job;
}

double divergence_of(Job job, const TempFolder& out, const std::string& name) {
  job.exports[0].path = out / name;
  return run(job).metrics.at(1).divergence.kl_mean;
}

TEST(AwqJob, DivergesLessThanRoundingToNearest) {
  const TempFolder out;
  Job job = awq_job(out);
  job.quantization.awq.rounding = "rtn";
  const double awq = divergence_of(job, out, "awq");
  job.quantization.method = "rtn";
  job.quantization.scale_rule = ScaleRule::kMinMax;
  const double rtn = divergence_of(job, out, "rtn");
  EXPECT_LT(awq, 0.9 * rtn);
  EXPECT_GT(awq, 0.0);
}

TEST(AwqJob, ScalesSomeNormsAndKeepsTheDtypeOfThem) {
  const TempFolder out;
  Job job = awq_job(out);
  job.evaluate.reset();
  run(job);
  const io::SafetensorsCheckpoint before(CALQUE_DEMO_MODEL);
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
  Job job = awq_job(out);
  job.quantization.awq.loss = "output";
  job.quantization.awq.rounding = "rtn";
  job.quantization.awq.n_grid = 6;
  const double output = divergence_of(job, out, "output");
  job.quantization.method = "rtn";
  job.quantization.scale_rule = ScaleRule::kMinMax;
  EXPECT_LT(output, divergence_of(job, out, "rtn"));
}

TEST(AwqJob, RefusesTheOutputLossWithoutPropagatedInputs) {
  const TempFolder out;
  Job job = awq_job(out);
  job.quantization.awq.loss = "output";
  job.quantization.propagate_error = false;
  try {
    run(job);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E113");
    EXPECT_THAT(error.what(), HasSubstr("awq.loss: gram"));
  }
}

std::map<std::string, std::string> hashes_in(const fs::path& folder) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() == ".safetensors")
      hashes[fs::relative(entry.path(), folder)] = io::sha256_hex_of_file(entry.path());
  return hashes;
}

TEST(AwqJob, WritesTheSameBytesWithOneAndTwoThreads) {
  const TempFolder one, two;
  for (const TempFolder* out : {&one, &two}) {
    Job job = awq_job(*out);
    job.evaluate.reset();
    job.runtime.threads = out == &one ? 1 : 2;
    run(job);
  }
  EXPECT_EQ(hashes_in(one.path()), hashes_in(two.path()));
}

// One rounding in three containers: what a reader gets is the same to the last bit.
TEST(AwqJob, OnePassFillsEveryContainerThatHoldsTheGrid) {
  const TempFolder out;
  Job job = awq_job(out);
  job.evaluate.reset();
  job.exports = {folder_export("awq", out / "awq"), folder_export("compressed-tensors", out / "ct"),
                 folder_export("gptq", out / "gptq")};
  for (artifact::ExportRequest& request : job.exports) request.scale_dtype = "bfloat16";
  const Report report = run(job);
  EXPECT_EQ(report.artifacts[0].modules[0].seconds, report.artifacts[2].modules[0].seconds);
  const auto awq = artifact::open_artifact(out / "awq");
  for (const char* other : {"ct", "gptq"}) {
    const auto reader = artifact::open_artifact(out / other);
    for (const artifact::StoredTensor& tensor : awq->tensors()) {
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
  Job job = awq_job(out);
  job.quantization.grid.bits = 8;
  job.quantization.awq.rounding = "rtn";
  job.exports = {folder_export("compressed-tensors", out / "ct")};
  const double without_rules = divergence_of(job, out, "all");
  job.quantization.grid.rules = {{.match = "*.layers.1.*", .skip = true},
                                 {.match = "*.v_proj", .skip = true},
                                 {.match = "re:.*layers.2.self_attn.q_proj", .skip = true},
                                 {.match = "*.up_proj", .skip = true}};
  // Fewer roundings, so not more error; a fold that lost its other side would show by far.
  EXPECT_LT(divergence_of(job, out, "skipped"), 1.2 * without_rules);
}

std::vector<std::int32_t> random_ids(Index count, int vocabulary, std::uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  for (std::int32_t& id : ids)
    id = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(vocabulary));
  return ids;
}

// A file of random ids for the tiny models of every family, which have no tokenizer.
fs::path random_tokens(const fs::path& folder, Index rows, Index seqlen, int vocabulary,
                       std::uint32_t seed) {
  const std::vector<std::int32_t> ids = random_ids(rows * seqlen, vocabulary, seed);
  fs::create_directories(folder);
  io::SafetensorsWriter writer(folder, {{"input_ids", DType::kI32, {rows, seqlen}}});
  writer.write("input_ids", std::as_bytes(std::span(ids)));
  writer.finish();
  return folder / "model.safetensors";
}

class AwqOnEveryFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, AwqOnEveryFamily,
                         ::testing::Values("llama", "llama3_rope", "llama_bias", "mistral_sliding",
                                           "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "mixtral",
                                           "qwen2_moe", "qwen3_moe"));

bool ends_with_any(const std::string& name, std::initializer_list<const char*> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](const char* ending) { return name.ends_with(ending); });
}

// The model of a family with every sixteenth channel of its blocks' activations eight times as
// large, so that there is something for channel scales to gain at every site: norms, and the rows
// that make the inputs of o and down. Another function than the fixture's, and as good a model.
void plant_salient_channels(const fs::path& from, const fs::path& to) {
  fs::create_directories(to);
  io::copy_file(from / "config.json", to / "config.json");
  const io::SafetensorsCheckpoint source(from);
  std::vector<io::TensorDeclaration> declarations;
  for (const io::TensorRef& tensor : source.tensors())
    declarations.push_back({tensor.name, tensor.dtype, tensor.shape});
  io::SafetensorsWriter writer(to, declarations);
  const bool plus_one = from.filename().string().starts_with("gemma");
  for (const io::TensorRef& tensor : source.tensors()) {
    Matrix<float> values = model::CheckpointSource(source).load(tensor.name);
    const bool norm =
        ends_with_any(tensor.name, {"input_layernorm.weight", "post_attention_layernorm.weight",
                                    "pre_feedforward_layernorm.weight"});
    const bool rows = ends_with_any(tensor.name, {"v_proj.weight", "v_proj.bias", "up_proj.weight",
                                                  "up_proj.bias", "w3.weight", "qkv_proj.weight"});
    for (Index r = 0; r < values.rows(); ++r)
      for (Index c = 0; c < values.cols(); ++c) {
        const Index channel = values.rows() == 1 ? c : r;
        if (channel % 16 != 3) continue;
        if (norm) values(r, c) = plus_one ? 8 * (1 + values(r, c)) - 1 : 8 * values(r, c);
        if (rows) values(r, c) *= 8;
      }
    std::vector<std::byte> bytes(tensor.bytes.size());
    convert_from_float(values.data(), tensor.dtype, static_cast<std::size_t>(values.size()),
                       bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

// How far an artifact's logits are from the model's at a typical position: the median over
// positions of |difference| / |logits|. (A mean would be ruled by the few positions where rounding
// sends a token to another expert.)
double typical_logit_error(const fs::path& artifact, const fs::path& model,
                           const std::vector<std::int32_t>& ids) {
  const auto original = artifact::open_artifact(model);
  const auto rounded = artifact::open_artifact(artifact);
  const Matrix<float> expected_TV = prompt_logits(*original, original->config(), ids, 0);
  const Matrix<float> actual_TV = prompt_logits(*rounded, rounded->config(), ids, 0);
  std::vector<double> errors;
  for (Index t = 0; t < expected_TV.rows(); ++t) {
    double difference = 0, size = 0;
    for (Index v = 0; v < expected_TV.cols(); ++v) {
      difference += std::pow(static_cast<double>(actual_TV(t, v)) - expected_TV(t, v), 2);
      size += std::pow(static_cast<double>(expected_TV(t, v)), 2);
    }
    errors.push_back(std::sqrt(difference / size));
  }
  std::nth_element(errors.begin(), errors.begin() + errors.size() / 2, errors.end());
  return errors[errors.size() / 2];
}

// Scales are found and folded (norms of either kind, fused rows, biases, routers, experts), and at
// 8 bits the model is still itself, nearer than rounding to nearest without scales (0.4 to 0.6 of
// its error where this was written). A fold that forgets one side changes logits by their own size.
TEST_P(AwqOnEveryFamily, KeepsTheModelItself) {
  const TempFolder out;
  Job job;
  job.name = "family";
  job.model.path = out / "model";
  plant_salient_channels(fs::path(CALQUE_FIXTURES) / "families" / GetParam(), job.model.path);
  job.calibration.tokens = random_tokens(out / "ids", 40, 96, 320, 1);
  job.calibration.packing.n_samples = 40;
  job.calibration.packing.seqlen = 96;
  job.runtime.forward_dtype = "float32";
  job.quantization.grid = {.bits = 8, .group_size = 32, .sym = true};
  job.quantization.method = "awq";
  job.quantization.awq.rounding = "rtn";
  job.quantization.fallback_max_modules = 100;
  job.exports = {folder_export("compressed-tensors", out / "awq")};
  job.exports[0].scale_dtype = "float16";
  run(job);
  job.quantization.method = "rtn";
  job.quantization.scale_rule = ScaleRule::kMinMax;
  job.exports[0].path = out / "rtn";
  run(job);
  const std::vector<std::int32_t> ids = random_ids(96, 320, 2);
  const double awq = typical_logit_error(out / "awq", job.model.path, ids);
  const double rtn = typical_logit_error(out / "rtn", job.model.path, ids);
  std::printf("%s: awq %.4f, rtn %.4f\n", GetParam(), awq, rtn);
  EXPECT_LT(awq, 0.8 * rtn);
  EXPECT_GT(awq, 0.0);
}

}  // namespace
}  // namespace calque::pipeline
