#include "calque/publish/publish.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/file.h"
#include "calque/pipeline/quantize_model.h"
#include "calque/verify/verify.h"
#include "calque/verify/verify_artifact.h"
#include "support/paths.h"
#include "support/temp_folder.h"

// The demo model, rounded to nearest: no calibration, seconds.

namespace calque::publish {
namespace {

using verify::parse_probe, verify::probe_prompt, verify::verify_artifact;

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;
using ::testing::Not;
using verify::Finding;

job::Job rtn_job(const TempFolder& out) {
  job::Job job;
  job.name = "rtn";
  job.model.path = test::demo_model();
  job.quantization.set_method("rtn");
  job.quantization.grid.group_size = 64;
  formats::ExportRequest gptq;
  gptq.format = "gptq";
  gptq.path = out / "demo-Int4";
  job.exports = {gptq};
  return job;
}

std::string text_of(const std::vector<Finding>& findings, Finding::Verdict verdict) {
  std::string text;
  for (const Finding& f : findings)
    if (f.verdict == verdict) text += f.check + ": " + f.message + "\n";
  return text;
}

// Quantized and published once for all tests; those that damage it copy it first.
class Published : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    out_ = new TempFolder;
    record::Observer silent;
    const job::Job job = rtn_job(*out_);
    const record::Report report = pipeline::quantize_model(job, silent);
    publish_folder(report, 0, job, "model:\n  path: \"" + (*out_ / "source").string() + "\"\n");
  }
  static void TearDownTestSuite() { delete out_; }
  static fs::path folder() { return *out_ / "demo-Int4"; }

  fs::path copy() const {
    fs::copy(folder(), own_ / "copy", fs::copy_options::recursive);
    return own_ / "copy";
  }

  static TempFolder* out_;
  TempFolder own_;
};
TempFolder* Published::out_ = nullptr;

TEST_F(Published, HoldsEverythingAndVerifies) {
  for (const char* name : {"README.md", "calque/job.resolved.yaml", "calque/metrics.json",
                           "calque/calibration_manifest.json", "SHA256SUMS"})
    EXPECT_TRUE(fs::is_regular_file(folder() / name)) << name;
  const std::vector<Finding> findings =
      verify_artifact({.artifact = folder(), .reference = test::demo_model()});
  EXPECT_EQ(text_of(findings, Finding::Verdict::kFault), "");
  EXPECT_EQ(text_of(findings, Finding::Verdict::kWarning), "");
  const std::string good = text_of(findings, Finding::Verdict::kOk);
  EXPECT_THAT(good, HasSubstr("reload: finite logits for a prompt of 64 tokens"));
  EXPECT_THAT(good, HasSubstr("reload: 8 logits match those from when the artifact was made"));
  EXPECT_THAT(good, HasSubstr("reload: KL divergence from the reference 0."));
}

TEST_F(Published, NamesNoLocalFolder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder())) {
    if (!entry.is_regular_file() || entry.path().extension() == ".safetensors") continue;
    EXPECT_THAT(io::read_file(entry.path()), Not(HasSubstr(out_->path().string()))) << entry.path();
  }
}

TEST_F(Published, ListsEveryFile) {
  const std::string sums = io::read_file(folder() / "SHA256SUMS");
  for (const char* name : {"  README.md\n", "  calque/metrics.json\n", "  model.safetensors\n"})
    EXPECT_THAT(sums, HasSubstr(name));
}

TEST_F(Published, ProbeRemembersTheLargestLogits) {
  const auto probe = parse_probe(io::read_file(folder() / "calque/metrics.json"));
  ASSERT_TRUE(probe.has_value());
  EXPECT_EQ(probe->ids.size(), 64u);
  ASSERT_EQ(probe->top_logits.size(), 8u);
  EXPECT_TRUE(std::is_sorted(probe->top_logits.rbegin(), probe->top_logits.rend()));
}

// One scale doubled: every file is sound in itself, only the answers change.
TEST_F(Published, ProbeFindsAChangedWeight) {
  const fs::path damaged = copy();
  const io::SafetensorsFile file(damaged / "model.safetensors");
  const io::TensorRef* norm = file.find("model.norm.weight");
  ASSERT_NE(norm, nullptr);
  std::string bytes = io::read_file(damaged / "model.safetensors");
  const std::string values(reinterpret_cast<const char*>(norm->bytes.data()), norm->bytes.size());
  const std::size_t at = bytes.rfind(values);
  ASSERT_NE(at, std::string::npos);
  for (std::size_t i = 0; i < values.size(); i += 2) bytes[at + i + 1] = 0x40;  // 2 and more
  fs::remove(damaged / "SHA256SUMS");
  io::write_file(damaged / "model.safetensors", bytes);
  EXPECT_THAT(text_of(verify_artifact({.artifact = damaged}), Finding::Verdict::kFault),
              HasSubstr("weights or settings have changed"));
}

TEST_F(Published, RefusesAProbeThatIsNone) {
  const fs::path damaged = copy();
  fs::remove(damaged / "SHA256SUMS");
  const fs::path file = damaged / "calque/metrics.json";
  io::write_file(file, R"({"probe": {"ids": [1, 99999999], "top_ids": [1], "top_logits": [0.5]}})");
  EXPECT_THAT(text_of(verify_artifact({.artifact = damaged}), Finding::Verdict::kFault),
              HasSubstr("the probe holds token 99999999"));
  io::write_file(file, R"({"probe": {"ids": [1], "top_ids": [1, 2], "top_logits": [0.5]}})");
  EXPECT_THAT(text_of(verify_artifact({.artifact = damaged}), Finding::Verdict::kFault),
              HasSubstr("1 ids, 2 top_ids and 1 top_logits"));
}

TEST(Publish, LeavesOutWhatTheJobDoesNotWant) {
  const TempFolder out;
  record::Observer silent;
  job::Job job = rtn_job(out);
  job.publish.model_card = false;
  job.publish.checksums = false;
  publish_folder(pipeline::quantize_model(job, silent), 0, job, "name: x\n");
  EXPECT_FALSE(fs::exists(out / "demo-Int4/README.md"));
  EXPECT_FALSE(fs::exists(out / "demo-Int4/SHA256SUMS"));
  EXPECT_TRUE(fs::exists(out / "demo-Int4/calque/metrics.json"));
}

TEST(Publish, LeavesGgufFilesAlone) {
  const TempFolder out;
  record::Report report;
  report.artifacts.resize(1);
  report.artifacts[0].plan.request.format = "gguf";
  report.artifacts[0].plan.request.path = out / "demo.gguf";
  publish_folder(report, 0, job::Job{}, "");
  EXPECT_TRUE(fs::is_empty(out.path()));
}

TEST(ProbePrompt, TakesFixedIdsWithoutATokenizer) {
  const TempFolder empty;
  const std::vector<std::int32_t> ids = probe_prompt(empty.path(), 100);
  ASSERT_EQ(ids.size(), 64u);
  EXPECT_EQ(ids[0], 0);
  EXPECT_EQ(ids[1], 19);  // 7919 = 79 * 100 + 19
  EXPECT_EQ(ids[63], 63 * 7919 % 100);
}

}  // namespace
}  // namespace calque::publish
