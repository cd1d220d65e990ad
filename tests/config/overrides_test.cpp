#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/job_text.h"

namespace calque::config {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Overrides, ReplaceWhatTheFileSays) {
  const JobFolder folder;
  const job::Job job = folder.load(
      kSmallJob, {"export.0.path=out/other", "export.0.overwrite=true", "name=changed"});
  EXPECT_EQ(job.exports[0].path, folder.path() / "out/other");
  EXPECT_TRUE(job.exports[0].overwrite);
  EXPECT_EQ(job.name, "changed");
}

TEST(Overrides, MakeSectionsAndListEntriesThatAreNotThere) {
  const JobFolder folder;
  const job::Job job = folder.load(
      kSmallJob, {"quantization.fallback.max_modules=3", "calibration.sources.0.path=a.txt",
                  "export.1={format: gguf, path: b.gguf}"});
  EXPECT_EQ(job.quantization.fallback_max_modules, 3);
  ASSERT_EQ(job.calibration.sources.size(), 1u);
  EXPECT_EQ(job.calibration.sources[0].path, folder.path() / "a.txt");
  ASSERT_EQ(job.exports.size(), 2u);
  EXPECT_EQ(job.exports[1].format, "gguf");
}

TEST(Overrides, CanRemoveASection) {
  const JobFolder folder;
  const std::string yaml = kSmallJob + "evaluate: {texts: [{text: a.txt}]}\n";
  ASSERT_TRUE(folder.load(yaml).evaluate);
  EXPECT_FALSE(folder.load(yaml, {"evaluate=null"}).evaluate);
}

TEST(Overrides, TheLastOneWins) {
  const JobFolder folder;
  EXPECT_EQ(
      folder.load(kSmallJob, {"quantization.bits=2", "quantization.bits=8"}).quantization.grid.bits,
      8);
}

TEST(Overrides, PlainValuesNeedNoQuotes) {
  const JobFolder folder;
  const auto split_on = [&](const std::string& value) {
    const std::string key = "calibration.sources.0.";
    return folder.load(kSmallJob, {key + "path=a.txt", key + "split_on=" + value})
        .calibration.sources[0]
        .split_on;
  };
  EXPECT_EQ(split_on("---"), "---");  // in YAML: an empty document
  EXPECT_EQ(split_on("a: b # c"), "a: b # c");
  EXPECT_EQ(split_on("\"\\n\\n\""), "\n\n");
  EXPECT_EQ(split_on("'---'"), "---");
  EXPECT_EQ(split_on("null"), std::nullopt);
}

TEST(Overrides, ValuesMayHoldEqualsSigns) {
  const JobFolder folder;
  EXPECT_EQ(folder.load(kSmallJob, {"model.path=a=b"}).model.path, folder.path() / "a=b");
}

TEST(Overrides, FaultsNameTheOverride) {
  const JobFolder folder;
  const auto refusal = [&](const std::string& set) { return folder.refusal(kSmallJob, {set}); };
  EXPECT_EQ(refusal("quantization.bits=9"),
            "--set quantization.bits=9: error[E106]: quantization.bits must be 2 to 8, not 9");
  EXPECT_THAT(
      refusal("quantization.bts=4"),
      StartsWith("--set quantization.bts=4: error[E101]: unknown key 'bts' in quantization; "
                 "did you mean 'bits'?"));
  EXPECT_THAT(refusal("quantization.w_bit=4"), HasSubstr("error[E103]"));
  EXPECT_THAT(refusal("quantization.bits"), HasSubstr("error[E104]: must be KEY.PATH=VALUE"));
  EXPECT_THAT(refusal(".bits=4"), HasSubstr("error[E104]: must be KEY.PATH=VALUE"));
  EXPECT_THAT(refusal("export.5.path=a"), HasSubstr("'5' is not an index of a list of 1"));
  EXPECT_THAT(refusal("export.x.path=a"), HasSubstr("'x' is not an index of a list of 1"));
  EXPECT_THAT(refusal("version.x=a"), HasSubstr("there is no 'x' inside '1'"));
  EXPECT_THAT(refusal("name=[a"), HasSubstr("--set name=[a: error[E104]: not valid YAML"));
  EXPECT_THAT(refusal("quantization.bits="), HasSubstr("must be an integer, not nothing"));
}

TEST(Overrides, FaultsOfTheFileComeFirst) {
  const JobFolder folder;
  const std::string message = folder.refusal(kSmallJob + "bots: 1\n", {"quantization.bits=9"});
  EXPECT_THAT(message, StartsWith("job.yaml:7:1: error[E101]"));
  EXPECT_THAT(message, HasSubstr("\n--set quantization.bits=9: error[E106]"));
}

}  // namespace
}  // namespace calque::config
