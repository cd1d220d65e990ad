// Folders with scales of an FP8 key/value cache.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "calque/core/error.h"
#include "calque/formats/reader.h"
#include "calque/forward/token_rows.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/model/family.h"
#include "calque/pipeline/open_job.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;
using ::testing::HasSubstr;

job::Job job_of(const TempFolder& folder) {
  job::Job job = demo_job();
  job.calibration.packing.n_samples = 4;
  job.calibration.packing.seqlen = 64;
  job.quantization.set_method("rtn");
  job.quantization.propagate_error = false;
  for (const char* cache : {"fp8", "fp8_head", "none"}) {
    job.exports.push_back(folder_export("compressed-tensors", folder / cache));
    job.exports.back().scheme = "FP8_DYNAMIC";
    job.exports.back().kv_cache = cache;
  }
  job.publish.model_card = job.publish.checksums = false;
  job.run_dir = folder / "run";
  return job;
}

// Keys and values of the model on the job's calibration text, seen from outside of the job.
class Seen : public forward::KvCacheRounding {
 public:
  explicit Seen(Index layers, Index heads)
      : keys(static_cast<std::size_t>(layers), std::vector<float>(heads, 0.0f)), values(keys) {}
  bool rounds(Index) const override { return true; }
  void round_keys(const forward::KvRows& rows) const override { see(rows, keys); }
  void round_values(const forward::KvRows& rows) const override { see(rows, values); }

  using Largest = std::vector<std::vector<float>>;
  mutable Largest keys, values;

 private:
  void see(const forward::KvRows& rows, Largest& largest) const {
    const std::lock_guard lock(mutex_);
    const Index tokens = rows.rows_SD.rows() / rows.heads;
    for (Index h = 0; h < rows.heads; ++h)
      for (Index t = 0; t < tokens; ++t)
        for (Index d = 0; d < rows.rows_SD.cols(); ++d) {
          float& most = largest[static_cast<std::size_t>(rows.layer)][static_cast<std::size_t>(h)];
          most = std::max(most, std::abs(rows.rows_SD(h * tokens + t, d)));
        }
  }
  mutable std::mutex mutex_;
};

std::shared_ptr<const Seen> seen_by(const job::Job& job) {
  const OpenedJob opened = open_job(job);
  const model::FamilySpec& family = opened.source.family;
  const auto seen = std::make_shared<Seen>(family.config.num_layers, family.config.num_kv_heads);
  const auto runner = forward::make_block_runner(
      family.config, {.dtype = forward::ComputeDType::kFloat32, .kv_cache = seen});
  const text::TokenBlocks rows =
      opened.tokens.calibration(job.calibration, family.config.vocab_size).blocks;
  const model::ModelSource& source = *opened.source.weights;
  const auto hidden = forward::embed_tokens(*runner, source, family, rows.ids_BS, rows.lengths_B);
  for (const model::BlockSpec& block : family.blocks) {
    model::BlockWeights weights = model::load_block(source, block);
    runner->run_block(block, weights, *hidden, nullptr);
  }
  return seen;
}

TEST(KvScales, AreTheLargestOfCalibrationBy448) {
  const TempFolder folder;
  job::Job job = job_of(folder);
  const auto seen = seen_by(job);
  run(job);
  const KvNumbersByLayer tensor = formats::open_artifact(folder / "fp8")->kv_scales();
  const KvNumbersByLayer heads = formats::open_artifact(folder / "fp8_head")->kv_scales();
  EXPECT_TRUE(formats::open_artifact(folder / "none")->kv_scales().empty());
  ASSERT_EQ(heads.size(), seen->keys.size());
  for (const auto& [layer, scales] : heads) {
    const std::vector<float>& keys = seen->keys[static_cast<std::size_t>(layer)];
    const std::vector<float>& values = seen->values[static_cast<std::size_t>(layer)];
    ASSERT_EQ(scales.keys.size(), keys.size());
    for (std::size_t h = 0; h < keys.size(); ++h) {
      EXPECT_EQ(scales.keys[h], rounded_to_half(keys[h] / 448)) << layer;
      EXPECT_EQ(scales.values[h], rounded_to_half(values[h] / 448)) << layer;
    }
    EXPECT_EQ(tensor.at(layer).keys,
              std::vector{rounded_to_half(*std::ranges::max_element(keys) / 448)});
    EXPECT_EQ(tensor.at(layer).values,
              std::vector{rounded_to_half(*std::ranges::max_element(values) / 448)});
  }
}

// As compressed-tensors 0.20.1 writes it.
TEST(KvScales, AreNamedInTheConfig) {
  const TempFolder folder;
  run(job_of(folder));
  const auto scheme = [&](const char* name) {
    return io::parse_json(io::read_file(folder / name / "config.json"))
        .at("quantization_config")
        .at("kv_cache_scheme");
  };
  EXPECT_TRUE(scheme("none").is_null());
  for (const auto& [name, strategy] : {std::pair{"fp8", "tensor"}, {"fp8_head", "attn_head"}})
    EXPECT_EQ(scheme(name), (io::Json{{"num_bits", 8},
                                      {"type", "float"},
                                      {"symmetric", true},
                                      {"strategy", strategy},
                                      {"group_size", nullptr},
                                      {"dynamic", false}}));
}

TEST(KvScales, RoundKeysAndValuesInTheEvaluation) {
  const TempFolder folder;
  job::Job job = job_of(folder);
  job.evaluate = small_evaluation();
  job.evaluate->windows = 2;
  const record::Report report = run(job);
  const auto& models = report.evaluations.front().models;
  ASSERT_EQ(models.size(), 4u);
  EXPECT_EQ(models[1].inputs, "FP8 a token, KV cache FP8");
  EXPECT_EQ(models[3].inputs, "FP8 a token");
  EXPECT_NE(models[1].divergence.kl_mean, models[3].divergence.kl_mean);
  EXPECT_NE(models[1].divergence.kl_mean, models[2].divergence.kl_mean);
}

// Trials of channel scales run attention too, with other weights: they leave no trace.
TEST(KvScales, DoNotCountTrials) {
  const TempFolder folder;
  job::Job job = job_of(folder);
  job.exports.erase(job.exports.begin(), job.exports.begin() + 1);
  job.quantization.propagate_error = true;
  job.quantization.set_method("awq");
  job.quantization.awq.n_grid = 2;
  job.quantization.awq.loss = quant::AwqLoss::kOutput;
  run(job);
  const auto reader = formats::open_artifact(folder / "fp8_head");
  // The first layer's inputs are the original's, and so are its keys but for the rounding.
  const TempFolder other;
  const auto seen = seen_by(job_of(other));
  const std::vector<float> keys = reader->kv_scales().at(0).keys;
  for (std::size_t h = 0; h < keys.size(); ++h)
    EXPECT_NEAR(keys[h], seen->keys[0][h] / 448, 0.05 * keys[h]);
}

TEST(KvScales, NeedText) {
  const TempFolder folder;
  job::Job job = job_of(folder);
  job.calibration = {};
  try {
    run(job);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E134");
    EXPECT_THAT(error.what(), HasSubstr("kv_cache: fp8"));
  }
}

}  // namespace
}  // namespace calque::pipeline
