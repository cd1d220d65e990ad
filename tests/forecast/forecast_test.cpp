#include "calque/forecast/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/pipeline/forecast_job.h"
#include "forecast/planned_modules.h"
#include "forecast/shapes_only.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::forecast {
namespace {

using namespace pipeline;

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

job::Job rounding_job(const TempFolder& folder) {
  if (!fs::exists(folder / "tiny")) write_tiny_model(folder / "tiny");
  job::Job job;
  job.name = "sizes";
  job.model.path = folder / "tiny";
  job.quantization.set_method("rtn");
  job.publish.model_card = false;
  job.runtime.threads = 1;
  return job;
}

formats::ExportRequest gguf_export(const fs::path& path, const std::string& type) {
  formats::ExportRequest request = folder_export("gguf", path);
  request.type = type;
  return request;
}

// Every file of the plan exists with its size; folders contain no other file.
void expect_exactly(const PlannedExport& planned, const record::ArtifactReport& written) {
  const fs::path& path = planned.plan.request.path;
  const bool folder = planned.plan.request.format != "gguf";
  EXPECT_EQ(planned.weights_bytes(), written.file_bytes) << path;
  std::set<std::string> names;
  for (const formats::PlannedFile& file : planned.files) {
    const fs::path at = (folder ? path : path.parent_path()) / file.name;
    ASSERT_TRUE(fs::exists(at)) << at;
    EXPECT_EQ(file.bytes, fs::file_size(at)) << at;
    names.insert(file.name);
  }
  if (!folder) return;
  for (const auto& entry : fs::directory_iterator(path))
    EXPECT_EQ(names.count(entry.path().filename().string()), 1u) << entry.path();
}

void expect_sizes(const job::Job& job) {
  const Forecast plan = pipeline::make_job_plan(job, {.seconds_to_measure = 0.01});
  const record::Report report = run(job);
  ASSERT_EQ(plan.exports.size(), report.artifacts.size());
  for (std::size_t i = 0; i < plan.exports.size(); ++i) {
    expect_exactly(plan.exports[i], report.artifacts[i]);
    EXPECT_EQ(report.predicted.file_bytes.at(i), report.artifacts[i].file_bytes);
  }
}

TEST(Forecast, KnowsTheSizeOfEveryFileOfAFolder) {
  const TempFolder folder;
  job::Job job = rounding_job(folder);
  job.exports = {folder_export("gptq", folder / "gptq"),
                 folder_export("compressed-tensors", folder / "ct")};
  job.exports.push_back(folder_export("gptq", folder / "shards"));
  job.exports.back().max_shard_bytes = 500'000;
  expect_sizes(job);
  EXPECT_TRUE(fs::exists(folder / "shards" / "model.safetensors.index.json"));
}

TEST(Forecast, KnowsTheSizesOfOtherWidthsAndGrids) {
  const TempFolder folder;
  job::Job job = rounding_job(folder);
  job.quantization.grid.sym = false;
  job.exports = {folder_export("gptq", folder / "v2"), folder_export("awq", folder / "awq"),
                 folder_export("compressed-tensors", folder / "ct")};
  expect_sizes(job);
  job.quantization.grid = {.bits = 3, .group_size = -1, .sym = true};
  job.quantization.grid.rules = {{.match = "*.down_proj", .bits = 8},
                                 {.match = "*.layers.0.*.q_proj", .skip = true}};
  job.exports = {folder_export("gptq", folder / "mixed")};
  expect_sizes(job);
}

TEST(Forecast, KnowsTheSizeOfEveryGgufType) {
  const TempFolder folder;
  job::Job job = rounding_job(folder);
  for (const char* type : {"F16", "F32", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K",
                           "Q3_K_M", "Q4_K_M", "Q5_K_S", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ2_0"})
    job.exports.push_back(gguf_export(folder / (std::string(type) + ".gguf"), type));
  job.exports.push_back(gguf_export(folder / "split.gguf", "Q8_0"));
  job.exports.back().split_max_bytes = 300'000;
  expect_sizes(job);
  fs::remove(folder / "tiny/tokenizer.model");  // a file without a tokenizer
  fs::remove(folder / "tiny/tokenizer_config.json");
  job.exports = {gguf_export(folder / "none.gguf", "Q4_0")};
  expect_sizes(job);
  job.exports.front().overwrite = true;
  EXPECT_THAT(pipeline::make_job_plan(job).warnings,
              ::testing::Contains(HasSubstr("the model has no tokenizer")));
}

// With settings that only calibration adds to the file: desc_act, the texts' names.
TEST(Forecast, KnowsTheSizesOfACalibratedJob) {
  const TempFolder folder;
  job::Job job = demo_job();
  job.calibration.packing = {.n_samples = 8, .seqlen = 64};
  job.publish.model_card = false;
  job.run_dir = folder / "run";
  job.exports = {folder_export("gptq", folder / "gptq"), gguf_export(folder / "k.gguf", "Q4_K_M")};
  job.exports.front().desc_act = true;
  job.exports.front().require = {};
  const Forecast plan = pipeline::make_job_plan(job, {.seconds_to_measure = 0.01});
  EXPECT_FALSE(fs::exists(job.run_dir));
  const record::Report report = run(job);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(plan.exports[i].weights_bytes(), report.artifacts[i].file_bytes);
    for (const formats::PlannedFile& file : plan.exports[i].files)
      EXPECT_EQ(file.bytes, fs::file_size((i == 0 ? folder / "gptq" : folder.path()) / file.name))
          << file.name;
  }
  EXPECT_EQ(report.predicted.seconds_from, "first block");
  EXPECT_GT(report.predicted.seconds, 0);
  EXPECT_GT(report.predicted.stages.forward, 0);
  EXPECT_EQ(report.predicted.peak_bytes, report.predicted_peak_bytes);
  const auto metrics = io::parse_json(io::read_file(job.run_dir / "metrics.json"));
  EXPECT_EQ(metrics.at("predicted").at("seconds_from"), "first block");
  EXPECT_EQ(metrics.at("predicted").at("stage_seconds").size(), 8u);
  EXPECT_EQ(metrics.at("artifacts").at(0).at("predicted_file_bytes"),
            metrics.at("artifacts").at(0).at("file_bytes"));
  const auto kept = io::parse_json(io::read_file(job.run_dir / "plan.json"));
  EXPECT_EQ(kept.at("time").at("from"), "estimate");
  EXPECT_EQ(kept.at("exports"), io::parse_json(forecast_json(plan)).at("exports"));
}

TEST(Forecast, ProbesOneBlockAndWritesNothing) {
  const TempFolder folder;
  job::Job job = demo_job();
  job.calibration.packing = {.n_samples = 4, .seqlen = 64};
  job.evaluate = small_evaluation();
  job.evaluate->windows = 2;
  job.run_dir = folder / "run";
  job.exports = {folder_export("gptq", folder / "gptq")};
  const Forecast plan = pipeline::make_job_plan(job, {.probe = true, .seconds_to_measure = 0.01});
  EXPECT_EQ(plan.time.from, "probe");
  EXPECT_GT(plan.time.stages.forward, 0);
  EXPECT_GT(plan.time.stages.evaluate, 0);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

std::vector<std::string> names_of(const std::vector<PlannedModules>& modules) {
  std::vector<std::string> names;
  for (const PlannedModules& m : modules) names.push_back(m.names);
  return names;
}

TEST(PlannedModules, PutsTogetherWhatIsTreatedAlike) {
  const model::FamilySpec family = tiny_family(12);
  formats::ExportPlan plan = gptq_plan(family).front();
  for (formats::TensorPlan& planned : plan.tensors)
    planned.stored_as = planned.grid ? "GPTQ 4 bit g32" : "BF16";
  for (const char* layer : {"0", "1", "5"})
    for (formats::TensorPlan& planned : plan.tensors)
      if (planned.tensor.name == std::string("model.layers.") + layer + ".mlp.down_proj.weight")
        planned.stored_as = "GPTQ 8 bit g32";
  const auto modules = planned_modules(tiny_job(), plan, false);
  EXPECT_THAT(names_of(modules),
              ::testing::UnorderedElementsAre(
                  "model.embed_tokens", "model.layers.{0-11}.{input,post_attention}_layernorm",
                  "model.layers.{0-11}.self_attn.{q,k,v,o}_proj",
                  "model.layers.{0-11}.mlp.{gate,up}_proj", "model.layers.{0-1,5}.mlp.down_proj",
                  "model.layers.{2-4,6-11}.mlp.down_proj", "model.norm", "lm_head"));
  std::size_t tensors = 0;
  std::uint64_t bytes = 0;
  for (const PlannedModules& m : modules) {
    tensors += m.count;
    bytes += m.bytes;
    if (m.names == "model.layers.{0-1,5}.mlp.down_proj") {
      EXPECT_EQ(m.count, 3u);
      EXPECT_EQ(m.method, "gptq");
      EXPECT_EQ(m.order, "static act order");
      EXPECT_EQ(m.weights, 3 * 64 * 192);
    }
  }
  EXPECT_EQ(tensors, plan.tensors.size());
  std::uint64_t all = 0;
  for (const formats::TensorPlan& planned : plan.tensors) all += planned.bytes;
  EXPECT_EQ(bytes, all);
  EXPECT_EQ(planned_modules(tiny_job(), plan, true).size(), plan.tensors.size());
}

}  // namespace
}  // namespace calque::forecast
