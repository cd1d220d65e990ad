#include "calque/resume/shared_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "calque/core/error.h"
#include "calque/formats/source.h"
#include "calque/io/file.h"
#include "calque/io/sha256.h"
#include "calque/resume/statistics_store.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::resume {
namespace {

using namespace pipeline;

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The tiny model, its calibration text as ids, and jobs on them.
class SharedWorkTest : public ::testing::Test {
 protected:
  SharedWorkTest() {
    write_tiny_model(folder_ / "model");
    write_chunks(folder_ / "ids", golden_request(folder_ / "model"));
  }

  job::Job job(const std::string& method, int bits, const std::string& name) const {
    job::Job job;
    job.name = name;
    job.model.path = folder_ / "model";
    job.calibration.tokens = folder_ / "ids" / "model.safetensors";
    job.calibration.packing.n_samples = 8;
    job.calibration.packing.seqlen = 128;
    job.quantization.set_method(method);
    job.quantization.grid.bits = bits;
    job.quantization.grid.group_size = 32;
    job.quantization.propagate_error = false;
    job.runtime.forward_dtype = "float32";
    job.exports = {folder_export(bits == 4 && method == "awq" ? "awq" : "gptq", folder_ / name)};
    if (method == "awq") job.quantization.grid.sym = false;
    return job;
  }
  record::Report run_with(SharedWork* shared, const job::Job& job) const {
    record::Observer silent;
    return quantize_model(job, silent, {.shared = shared});
  }
  SharedWork::Options options() const { return {.folder = folder_ / "shared"}; }
  std::string weights(const std::string& name) const {
    return bytes_of(folder_ / name / "model.safetensors");
  }
  fs::path only_store() const {
    return fs::directory_iterator(folder_ / "shared" / "statistics")->path();
  }

  testing::TempFolder folder_;
};

TEST_F(SharedWorkTest, StatisticsOfAnotherJobGiveTheSameArtifacts) {
  SharedWork shared(options());
  const record::Report first = run_with(&shared, job("gptq", 4, "first"));
  EXPECT_THAT(first.shared, IsEmpty());
  EXPECT_GT(first.stages.forward, 0);

  for (const auto& [method, bits] :
       {std::pair{"gptq", 4}, std::pair{"gptq", 3}, std::pair{"awq", 4}}) {
    const record::Report report = run_with(&shared, job(method, bits, "sharing"));
    EXPECT_THAT(report.shared, ElementsAre("tokens", "statistics"));
    EXPECT_EQ(report.stages.forward, 0);
    EXPECT_EQ(report.stages.statistics, 0);
    run_with(nullptr, job(method, bits, "alone"));
    EXPECT_EQ(weights("sharing"), weights("alone")) << method << " " << bits;
    fs::remove_all(folder_ / "sharing");
    fs::remove_all(folder_ / "alone");
  }
}

// The first job leaves the head as it is, and yet measures its inputs for others.
TEST_F(SharedWorkTest, TheHeadsStatisticsAreShared) {
  SharedWork shared(options());
  run_with(&shared, job("gptq", 4, "first"));
  for (SharedWork* with : {&shared, static_cast<SharedWork*>(nullptr)}) {
    job::Job gguf = job("gptq", 4, with != nullptr ? "sharing.gguf" : "alone.gguf");
    gguf.name = "both";
    gguf.exports[0].format = "gguf";
    gguf.exports[0].type = "Q4_K_M";
    const record::Report report = run_with(with, gguf);
    EXPECT_EQ(report.stages.forward == 0, with != nullptr);
    for (const record::ModuleReport& module : report.artifacts[0].modules) {
      if (module.module != "lm_head.weight") continue;
      EXPECT_EQ(module.tokens, 8 * 128);
      EXPECT_EQ(module.rounding.method, "gptq");
    }
  }
  EXPECT_EQ(io::sha256_hex_of_file(folder_ / "sharing.gguf"),
            io::sha256_hex_of_file(folder_ / "alone.gguf"));
}

TEST_F(SharedWorkTest, StatisticsOnDiskServeOtherProcesses) {
  {
    SharedWork shared(options());
    run_with(&shared, job("gptq", 4, "first"));
  }
  SharedWork shared(options());
  const record::Report report = run_with(&shared, job("gptq", 4, "second"));
  EXPECT_THAT(report.shared, ElementsAre("statistics"));
  EXPECT_GT(shared.taken().at(0).seconds, 0);
  EXPECT_EQ(weights("first"), weights("second"));
}

TEST_F(SharedWorkTest, StatisticsThatFeelTheCodesAreNotShared) {
  SharedWork shared(options());
  job::Job propagating = job("gptq", 4, "first");
  propagating.quantization.propagate_error = true;
  run_with(&shared, propagating);
  EXPECT_FALSE(fs::exists(folder_ / "shared"));
  run_with(&shared, job("gptq", 4, "second"));
  EXPECT_NE(weights("first"), weights("second"));
}

TEST_F(SharedWorkTest, OtherTextIsMeasuredAnew) {
  SharedWork shared(options());
  run_with(&shared, job("gptq", 4, "first"));
  job::Job other = job("gptq", 4, "second");
  other.calibration.packing.n_samples = 4;
  EXPECT_THAT(run_with(&shared, other).shared, IsEmpty());
}

// A pass that was killed leaves blocks, but does not say that they are all.
TEST_F(SharedWorkTest, StatisticsThatAreNotCompleteAreMeasuredAnew) {
  SharedWork shared(options());
  run_with(&shared, job("gptq", 4, "first"));
  fs::remove(only_store() / "complete");
  fs::remove_all(only_store() / "block-0000");
  EXPECT_THAT(run_with(&shared, job("gptq", 4, "second")).shared, ElementsAre("tokens"));
  EXPECT_EQ(weights("first"), weights("second"));
  EXPECT_TRUE(fs::exists(only_store() / "block-0000" / "model.safetensors"));
}

TEST_F(SharedWorkTest, DamagedStatisticsAreRefusedByName) {
  SharedWork shared(options());
  run_with(&shared, job("gptq", 4, "first"));
  const fs::path file = only_store() / "block-0000" / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) / 2);
  try {
    run_with(&shared, job("gptq", 4, "second"));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E197");
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    EXPECT_THAT(error.what(), HasSubstr("block-0000/model.safetensors' are damaged"));
  }
}

// Llama with hidden size h and inner size m: per block three sites of h (attn_in, attn_out,
// mlp_in) and one of m, and one of h for the head; each K (K + 1) / 2 floats and K doubles.
TEST_F(SharedWorkTest, SaysHowMuchDiskStatisticsTake) {
  const model::ModelConfig config = model::load_config(folder_ / "model");
  const auto site = [](Index k) { return k * (k + 1) / 2 * 4 + k * 8; };
  const Index block = 3 * site(config.hidden_size) + site(config.intermediate_size);
  EXPECT_EQ(statistics_bytes(formats::SourceModel(job("gptq", 4, "x").model.path).family),
            static_cast<std::uint64_t>(config.num_layers * block + site(config.hidden_size)));
}

TEST_F(SharedWorkTest, StatisticsWithoutRoomOnTheDiskAreNotWritten) {
  StatisticsStore store(folder_ / "shared", "key");
  EXPECT_FALSE(store.make_room(std::uint64_t{1} << 60));
  EXPECT_THAT(store.trouble(), HasSubstr("bytes free, shared statistics need"));
  store.finish({}, 1);
  EXPECT_FALSE(store.complete());
}

TEST_F(SharedWorkTest, IdentityFollowsTheFilesOfAFolder) {
  const std::string before = io::stamp_of(folder_ / "model");
  EXPECT_EQ(io::stamp_of(folder_ / "model"), before);
  std::ofstream(folder_ / "model" / "config.json", std::ios::app) << "\n";
  EXPECT_NE(io::stamp_of(folder_ / "model"), before);
}

}  // namespace
}  // namespace calque::resume
