#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "calque/io/json.h"
#include "cli/run_program.h"

// The commands that read runs and sweeps, on folders with two measured models each.

namespace calque::cli {
namespace {

using json = io::Json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void write_run(const std::filesystem::path& folder, const std::string& original,
               const std::string& model) {
  const std::string perplexity = R"({"value": 42.0, "uncertainty": 0.8, "predictions": 100})";
  std::filesystem::create_directories(folder);
  write(folder / "metrics.json",
        R"({"job": "j", "source": {"tensor_bytes": 1600, "bits_per_weight": 16, "name": ")" +
            original + R"("}, "artifacts": [{"name": ")" + model +
            R"(", "format": "gguf", "type": "Q4_K_M", "tensor_bytes": 480, "bits_per_weight": 4.8},
            {"name": "large", "format": "gguf", "type": "Q8_0", "tensor_bytes": 850,
             "bits_per_weight": 8.5}],
            "evaluations": [{"text": "prose", "seqlen": 512, "windows": 4,
              "manifest": {"tokens_sha256": "aa"},
              "models": [{"label": "original", "kind": "reference", "perplexity_huggingface": )" +
            perplexity + R"(}, {"label": ")" + model +
            R"(", "kind": "artifact", "perplexity_huggingface": )" + perplexity +
            R"(, "divergence": {"kl_mean": 0.003, "top1_agreement": 0.96}},
              {"label": "large", "kind": "artifact", "perplexity_huggingface": )" +
            perplexity + R"(, "divergence": {"kl_mean": 0.0001, "top1_agreement": 0.99}}]}]})");
}

TEST(ReportCommand, PrintsWhereThePageIs) {
  const testing::TempFolder folder;
  write_run(folder / "run", "tiny", "small");
  const Outcome outcome =
      run("report " + shell_quoted(folder / "run") + " --out " + shell_quoted(folder / "site"));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, (folder / "site/index.html").string() + "\n");
  EXPECT_TRUE(std::filesystem::exists(folder / "site/pareto_bits.svg"));
}

TEST(ReportCommand, RefusesAFolderThatIsNoRun) {
  const testing::TempFolder folder;
  const Outcome outcome = run("report " + shell_quoted(folder.path()));
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("error[E251]"), HasSubstr("(calque explain E251)")));
}

TEST(CompareCommand, WarnsWhereTheOriginalsDiffer) {
  const testing::TempFolder folder;
  write_run(folder / "a", "tiny", "from-tiny");
  write_run(folder / "b", "other", "from-other");
  const std::string both = shell_quoted(folder / "a") + " " + shell_quoted(folder / "b");
  const Outcome outcome = run("compare " + both);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("from-tiny"), HasSubstr("(0.00300)")));
  EXPECT_THAT(outcome.err, HasSubstr("warning: the originals differ: other (1.56 KiB), tiny"));
  const json comparison = io::parse_json(run("compare --json " + both).out);
  EXPECT_EQ(comparison.at("kl_compares"), false);
  EXPECT_EQ(comparison.at("models").size(), 4u);
}

TEST(CompareCommand, IsQuietAboutRunsOfOneOriginal) {
  const testing::TempFolder folder;
  write_run(folder / "a", "tiny", "small");
  const Outcome outcome = run("compare " + shell_quoted(folder / "a"));
  EXPECT_EQ(outcome.err, "");
  EXPECT_THAT(outcome.out, Not(HasSubstr("(0.003")));
}

TEST(RecommendCommand, KeepsToTheBounds) {
  const testing::TempFolder folder;
  write_run(folder / "a", "tiny", "small");
  const std::string path = shell_quoted(folder / "a");
  const auto used = [&](const std::string& bounds) {
    return io::parse_json(run("recommend --json " + path + bounds).out)
        .at("advice")
        .at(0)
        .at("use")
        .at("label");
  };
  EXPECT_EQ(used(" --max-kl 0.01"), "small");
  EXPECT_EQ(used(" --max-kl 0.001"), "large");
  EXPECT_EQ(used(" --max-bytes 0.5KiB"), "small");
  EXPECT_EQ(used(" --max-bits-per-weight 9"), "large");
  EXPECT_EQ(run("recommend " + path + " --max-bytes 4GX").exit_code, 2);
  const Outcome none = run("recommend " + path + " --max-kl 0.00001");
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("error[E254]"));
}

TEST(RecommendCommand, NamesUsualTypesWithSizesAndWhatWasMeasured) {
  const testing::TempFolder folder;
  write_run(folder / "a", "tiny", "small");
  EXPECT_THAT(
      run("recommend " + shell_quoted(folder / "a")).out,
      AllOf(HasSubstr("Measured on tiny (1.56 KiB), text prose"), HasSubstr("8B (Llama-3-8B)"),
            ::testing::ContainsRegex("Q4_K_M +0\\.00300 +4\\.08 GB")));
}

TEST(RecommendCommand, RefusesDifferentOriginals) {
  const testing::TempFolder folder;
  write_run(folder / "a", "tiny", "small");
  write_run(folder / "b", "other", "small");
  const Outcome outcome =
      run("recommend " + shell_quoted(folder / "a") + " " + shell_quoted(folder / "b"));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("error[E255]"));
}

}  // namespace
}  // namespace calque::cli
