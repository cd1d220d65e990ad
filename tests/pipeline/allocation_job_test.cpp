// Jobs with a target size, on the demo model.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "calque/eval/evaluate.h"
#include "calque/formats/reader.h"
#include "calque/formats/source.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/io/sha256.h"
#include "calque/pipeline/open_job.h"
#include "support/demo_job.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

using calque::testing::TempFolder;

job::Job sized_job(const TempFolder& out, const std::string& format, double bits_per_weight) {
  job::Job job = demo_job();
  job.calibration.packing.n_samples = 6;
  formats::ExportRequest request = folder_export(format, out / "made.gguf");
  request.type = "Q4_K_M";
  request.overwrite = true;
  job.exports = {request};
  job.quantization.allocation.target_bpw = bits_per_weight;
  if (format == "gguf") job.quantization.allocation.options = {"Q2_K", "Q4_K"};
  job.quantization.refine_passes = 0;  // refinement takes most of the time
  job.quantization.options.rounds = 1;
  job.quantization.allocation.samples = 6;
  job.quantization.allocation.windows = 1;
  return job;
}

TEST(TargetSize, IsMetByAGgufFileAndAFolder) {
  const TempFolder out;
  for (const auto& [format, target] :
       {std::pair("gguf", 3.2), std::pair("compressed-tensors", 7.0)}) {
    const record::Report report = run(sized_job(out, format, target));
    EXPECT_LE(report.artifacts[0].bits_per_weight, target) << format;
    EXPECT_GT(report.artifacts[0].bits_per_weight, target - 0.05) << format;
    EXPECT_EQ(report.artifacts[0].plan.tensor_bytes, report.allocation.bytes()) << format;
    std::filesystem::remove_all(out / "made.gguf");
  }
}

TEST(TargetSize, HoldsForWholeFiles) {
  const TempFolder out;
  job::Job job = sized_job(out, "gguf", 0);
  job.quantization.allocation.target_bpw.reset();
  job.quantization.allocation.target_size = 3'300'000;
  job.quantization.allocation.sensitivity = job::AllocationSettings::Sensitivity::kLayer;
  run(job);
  const std::uint64_t bytes = std::filesystem::file_size(out / "made.gguf");
  EXPECT_LE(bytes, 3'300'000U);
  EXPECT_GT(bytes, 3'260'000U);
}

// The weights of an artifact for some tensors, else the original's.
class Mixed : public model::WeightSource {
 public:
  Mixed(const model::WeightSource& original, const model::WeightSource& artifact,
        std::set<std::string, std::less<>> names)
      : original_(original), artifact_(artifact), names_(std::move(names)) {}
  bool has(std::string_view name) const override { return original_.has(name); }
  Matrix<float> load(std::string_view name) const override {
    return (names_.count(name) > 0 ? artifact_ : original_).load(name);
  }

 private:
  const model::WeightSource& original_;
  const model::WeightSource& artifact_;
  std::set<std::string, std::less<>> names_;
};

// The files of a job that rounds everything to the smallest option with the original's statistics
// hold what a trial runs with.
TEST(TargetSize, CostsAreDivergencesWithOnePartRounded) {
  const TempFolder out;
  job::Job job = sized_job(out, "gguf", 3.2);
  job.quantization.upstream_correction = 0;
  const record::Allocation allocation = run(job).allocation;
  job.quantization.allocation = {};
  job.quantization.propagate_error = false;
  job.exports[0].tensor_types = {{".", "Q2_K"}};
  run(job);
  const auto artifact = formats::open_artifact(out / "made.gguf");
  const OpenedJob opened = open_job(job);
  const formats::SourceModel& source = opened.source;
  const text::TokenBlocks all =
      opened.tokens.calibration(job.calibration, source.family.config.vocab_size).blocks;
  text::TokenBlocks windows;
  windows.ids_BS = Matrix<std::int32_t>::copy_of(all.ids_BS.view().rows(5, 1));
  windows.lengths_B = {all.lengths_B[5]};

  std::map<std::string, std::string> name_of;
  for (const model::TensorSpec& tensor : source.family.tensors())
    name_of[tensor.gguf_name] = tensor.name;
  for (const record::AllocatedPart& part : allocation.parts) {
    const bool tried = part.block == 3 || part.block < 0;  // a layer, the embedding and the head
    if (!tried) continue;
    const Mixed mixed(*source.weights, *artifact, {name_of.at(part.name)});
    const std::vector<eval::ModelMetrics> metrics =
        eval::evaluate({"original", source.weights.get(), &source.family.config},
                       {{part.name, &mixed, &source.family.config}}, windows, {});
    EXPECT_DOUBLE_EQ(part.cost_O[0], metrics[1].divergence.kl_typical) << part.name;
    EXPECT_GT(part.cost_O[0], part.cost_O[1]) << part.name;
  }
}

// A part whose error the job corrects later costs 0.8 of what it would. The head, behind which
// nothing is, costs what it does.
TEST(TargetSize, CostsAllowForTheUpstreamCorrection) {
  const TempFolder out;
  job::Job job = sized_job(out, "gguf", 3.2);
  job.quantization.upstream_correction = 0;
  const record::Allocation plain = run(job).allocation;
  job.quantization.upstream_correction = 1;
  const record::Allocation corrected = run(job).allocation;
  ASSERT_EQ(plain.parts.size(), corrected.parts.size());
  for (std::size_t p = 0; p < plain.parts.size(); ++p) {
    const double share = plain.parts[p].name == "output.weight" ? 1.0 : 0.8;
    EXPECT_DOUBLE_EQ(corrected.parts[p].cost_O[0], share * plain.parts[p].cost_O[0])
        << plain.parts[p].name;
  }
}

TEST(TargetSize, DoesNotDependOnThreads) {
  std::string sha256[2];
  for (const int threads : {1, 2}) {
    const TempFolder out;
    job::Job job = sized_job(out, "gguf", 3.2);
    job.runtime.threads = threads;
    run(job);
    sha256[threads - 1] = io::sha256_hex_of_file(out / "made.gguf");
  }
  EXPECT_EQ(sha256[0], sha256[1]);
}

TEST(TargetSize, TakesCostsOfTheSameMeasurementFromTheRunFolder) {
  const TempFolder out;
  job::Job job = sized_job(out, "gguf", 3.8);
  job.quantization.allocation.sensitivity = job::AllocationSettings::Sensitivity::kLayer;
  job.run_dir = out / "run";
  const record::Allocation first = run(job).allocation;
  const std::filesystem::path file = out / "run" / "allocation.json";
  io::Json json = io::parse_json(io::read_file(file));
  json["parts"].elements()[0]["cost"].elements()[0] = io::Json(4321.0);
  io::write_file(file, json.dump());
  job.quantization.allocation.target_bpw = 3.9;  // the costs are the same
  EXPECT_EQ(run(job).allocation.parts[0].cost_O[0], 4321.0);
  job.quantization.allocation.samples = 4;  // they are others
  EXPECT_NE(run(job).allocation.parts[0].cost_O[0], 4321.0);
  EXPECT_NE(first.parts[0].cost_O[0], 4321.0);
}

TEST(TargetSize, IsOpenedAsALikelyMix) {
  const TempFolder out;
  const OpenedJob opened = open_job(sized_job(out, "gguf", 3.2));
  ASSERT_TRUE(opened.sizes.has_value());
  EXPECT_LE(opened.plans[0].bits_per_weight, 3.2);
  EXPECT_GT(opened.plans[0].bits_per_weight, 3.1);
  const std::vector<std::string> notes = opened.notes();
  EXPECT_NE(notes.back().find("each of 44 parts gets one of Q2_K, Q4_K"), std::string::npos);
}

}  // namespace
}  // namespace calque::pipeline
