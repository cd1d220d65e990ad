#include "calque/config/sweep_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "calque/core/error.h"
#include "support/temp_folder.h"

namespace calque::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SweepText {
 public:
  SweepFile load(const std::string& yaml) const {
    std::ofstream(folder_ / "ablation.yaml") << yaml;
    return load_sweep(folder_ / "ablation.yaml");
  }
  // The message without the folder, so that it begins "ablation.yaml:".
  std::string refusal(const std::string& yaml) const {
    try {
      load(yaml);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kConfig);
      std::string message = error.what();
      const std::string prefix = folder_.path().string() + "/";
      for (std::size_t at; (at = message.find(prefix)) != std::string::npos;)
        message.erase(at, prefix.size());
      return message;
    }
    ADD_FAILURE() << "accepted:\n" << yaml;
    return {};
  }
  const std::filesystem::path& path() const { return folder_.path(); }

 private:
  testing::TempFolder folder_;
};

constexpr const char* kAllKeys = R"(version: 1
name: all
base: job.yaml
set:
  quantization.propagate_error: false
  evaluate.windows: 4
grid:
  bits: [2, 4]
  quantization.group_size: [32, -1]
paired:
  - {sym: true, export.0.checkpoint_format: gptq}
  - {sym: false, export.0.checkpoint_format: auto}
exclude:
  - {bits: 2, group_size: [32, -1]}
replicates: {seed: [0, 1]}
share: [tokens, statistics]
keep_artifacts: pareto
on_failure: stop
on_invalid: skip
output: out
)";

TEST(SweepFile, NamesEveryValueByItsPathInTheJobFile) {
  const SweepText text;
  const SweepFile sweep = text.load(kAllKeys);
  EXPECT_EQ(sweep.name, "all");
  EXPECT_EQ(sweep.base, text.path() / "job.yaml");
  EXPECT_EQ(sweep.output, text.path() / "out");
  EXPECT_THAT(sweep.set, ElementsAre(Setting{"quantization.propagate_error", "false"},
                                     Setting{"evaluate.windows", "4"}));
  ASSERT_EQ(sweep.grid.size(), 2u);
  EXPECT_EQ(sweep.grid[0].path, "quantization.bits");
  EXPECT_THAT(sweep.grid[1].values, ElementsAre("32", "-1"));
  EXPECT_THAT(sweep.paired.at(1), ElementsAre(Setting{"quantization.sym", "false"},
                                              Setting{"export.0.checkpoint_format", "auto"}));
  EXPECT_THAT(sweep.exclude.at(0).at(1).values, ElementsAre("32", "-1"));
  EXPECT_EQ(sweep.replicates.at(0).path, "calibration.seed");
  EXPECT_TRUE(sweep.share.tokens && sweep.share.statistics && !sweep.share.reference);
  EXPECT_EQ(sweep.keep_artifacts, KeepArtifacts::kPareto);
  EXPECT_TRUE(sweep.stop_on_failure && sweep.skip_invalid);
}

TEST(SweepFile, ResolvedReadsBackAsItself) {
  const SweepText text;
  const std::string resolved = resolved_yaml(text.load(kAllKeys));
  EXPECT_EQ(resolved_yaml(text.load(resolved)), resolved);
}

TEST(SweepFile, TakesItsNameAndFolderFromTheFile) {
  const SweepText text;
  const SweepFile sweep = text.load("version: 1\nbase: job.yaml\ngrid: {bits: [4]}\n");
  EXPECT_EQ(sweep.name, "ablation");
  EXPECT_EQ(sweep.output, text.path() / "runs" / "ablation");
  EXPECT_FALSE(sweep.share.asked);
}

TEST(SweepFile, SaysWhatToWriteInsteadOfAKeyThatWent) {
  EXPECT_THAT(SweepText().refusal("version: 1\nbase: j\ngrid: {block_size: [64, 128]}\n"),
              HasSubstr("3:8: error[E117]: 'block_size' is no longer a key"));
}

// null, lists and text that looks like a number reach --set as they were meant.
TEST(SweepFile, ValuesKeepTheirKind) {
  const SweepText text;
  const SweepFile sweep = text.load(
      "version: 1\nbase: job.yaml\ngrid:\n"
      "  evaluate: [null, {text: \"a, b.txt\"}]\n"
      "  export.0.require: [null, {vllm: true, tensor_parallel: [1, 2]}]\n"
      "  publish.quantized_by: [\"4\"]\n");
  EXPECT_THAT(sweep.grid[0].values, ElementsAre("null", R"({"text": "a, b.txt"})"));
  EXPECT_THAT(sweep.grid[1].values,
              ElementsAre("null", R"({"vllm": true, "tensor_parallel": [1, 2]})"));
  EXPECT_THAT(sweep.grid[2].values, ElementsAre("\"4\""));
}

TEST(SweepFile, PointsAtAnUnknownKeyWithTheNearestName) {
  EXPECT_EQ(SweepText().refusal("version: 1\nbase: job.yaml\ngrid:\n  quantization.bist: [4]\n"),
            "ablation.yaml:4:3: error[E101]: the job file has no key 'quantization.bist'; did you "
            "mean 'quantization.bits'?\n"
            "      quantization.bist: [4]\n"
            "      ^");
  EXPECT_THAT(SweepText().refusal("version: 1\nbase: j\ngird: {bits: [4]}\ngrid: {sym: [true]}\n"),
              HasSubstr("ablation.yaml:3:1: error[E101]: unknown key 'gird' in a sweep file; did "
                        "you mean 'grid'?"));
  EXPECT_THAT(SweepText().refusal("version: 1\nbase: j\ngrid: {export.type: [Q4_0]}\n"),
              HasSubstr("did you mean 'export.0.type'?"));
}

TEST(SweepFile, ChecksValuesWhereTheyAreWritten) {
  EXPECT_EQ(SweepText().refusal("version: 1\nbase: job.yaml\ngrid: {bits: [4, 9]}\n"),
            "ablation.yaml:3:18: error[E106]: quantization.bits must be 2 to 8, not 9\n"
            "    grid: {bits: [4, 9]}\n"
            "                     ^");
}

TEST(SweepFile, ReportsEverythingAtOnce) {
  const std::string message = SweepText().refusal(
      "version: 1\n"
      "grid: {bits: 4, sym: [], seed: [1, 1]}\n"
      "set: {bits: 4, name: other}\n"
      "paired: [{method: rtn}, {damp_percent: 0.1}]\n"
      "exclude: [{method: gptq}, {group_size: 3}]\n"
      "keep_artifacts: some\n"
      "keep_artifacts: all\n"
      "share: [weights]\n");
  for (const char* part :
       {"E108]: a sweep file needs the key 'base'",
        "2:8: error[E105]: bits must be a list of values ([4, 8]), not '4'",
        "2:17: error[E105]: sym has no values", "2:36: error[E181]: calibration.seed lists 1 twice",
        "3:7: error[E181]: 'quantization.bits' is already given in grid (line 2)",
        "3:16: error[E183]: a sweep cannot set 'name'",
        "4:25: error[E105]: every entry of paired must set the same keys",
        "5:28: error[E182]: exclude uses 'group_size', which neither grid nor paired changes",
        "6:17: error[E107]: keep_artifacts", "7:1: error[E102]: 'keep_artifacts' is set twice",
        "8:9: error[E107]: share"})
    EXPECT_THAT(message, HasSubstr(part));
}

TEST(SweepFile, NeedsSomethingToSweep) {
  EXPECT_THAT(SweepText().refusal("version: 1\nbase: job.yaml\n"),
              HasSubstr("needs grid or paired"));
}

}  // namespace
}  // namespace calque::config
