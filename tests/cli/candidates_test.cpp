#include "cli/candidates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "cli/commands.h"
#include "support/temp_folder.h"

namespace calque::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using Files = Candidates::Files;

// Two commands with an option of each kind.
class Complete : public ::testing::Test {
 protected:
  std::vector<std::string> words(const std::vector<std::string>& typed) const {
    std::vector<std::string> found;
    for (const Candidate& candidate : candidates(commands_, typed).words)
      found.push_back(candidate.word);
    return found;
  }
  Files files(const std::vector<std::string>& typed) const {
    return candidates(commands_, typed).files;
  }

  std::string text_;
  std::vector<std::string> list_;
  bool flag_ = false;
  std::vector<Command> commands_ = {
      {"bake",
       "Bakes a cake. With butter.",
       {Option{"cake", &text_, "The cake."}.among({"plum", "pear"}),
        Option{"tins", &list_, "Tins."}.folder(),
        Option{"--oven,-o", &text_, "The oven."}.among({"gas", "wood"}),
        Option{"--recipe", &text_, "A recipe."}.path(),
        Option{"--set", &list_, "Settings."}.setting(),
        {"--quiet,-q", &flag_, "Quietly."}},
       "",
       nullptr},
      {"baste", "Bastes.", {Option{"meat", &text_, "Meat."}.model()}, "", nullptr}};
};

TEST_F(Complete, CommandsComeFirst) {
  EXPECT_THAT(words({""}), ElementsAre("bake", "baste"));
  EXPECT_THAT(words({"bas"}), ElementsAre("baste"));
  EXPECT_THAT(words({"--v"}), ElementsAre("--version"));
  EXPECT_THAT(words({"fry", ""}), IsEmpty());
}

TEST_F(Complete, AnOptionWaitsForItsValueAndAFlagForNone) {
  EXPECT_THAT(words({"bake", "--oven", ""}), ElementsAre("gas", "wood"));
  EXPECT_THAT(words({"bake", "-o", "w"}), ElementsAre("wood"));
  EXPECT_THAT(words({"bake", "--oven=g"}), ElementsAre("--oven=gas"));
  EXPECT_THAT(words({"bake", "--quiet", "p"}), ElementsAre("plum", "pear"));
}

TEST_F(Complete, PositionalArgumentsFollowEachOtherAndAListTakesTheRest) {
  EXPECT_THAT(words({"bake", ""}), ElementsAre("plum", "pear"));
  EXPECT_EQ(files({"bake", ""}), Files::kNone);
  EXPECT_EQ(files({"bake", "plum", ""}), Files::kFolders);
  EXPECT_EQ(files({"bake", "-o", "gas", "plum", "a", "b", ""}), Files::kFolders);
  EXPECT_EQ(files({"bake", "--recipe", "x"}), Files::kAll);
}

TEST_F(Complete, OptionsThatAreGivenAreNotOfferedAgainUnlessTheyRepeat) {
  EXPECT_THAT(words({"bake", "-"}),
              ElementsAre("--oven", "--recipe", "--set", "--quiet", "--help"));
  EXPECT_THAT(words({"bake", "--oven=gas", "-q", "--set", "a=b", "-"}),
              ElementsAre("--recipe", "--set", "--help"));
}

TEST_F(Complete, SettingsAreCompletedPartByPart) {
  EXPECT_THAT(words({"bake", "--set", "quantization.gr"}), ElementsAre("quantization.group_size="));
  EXPECT_THAT(words({"bake", "--set", "expo"}), ElementsAre("export."));
  EXPECT_THAT(words({"bake", "--set", "export."}), ElementsAre("export.0."));
  EXPECT_THAT(words({"bake", "--set", "export.12"}), ElementsAre("export.12."));
  EXPECT_THAT(words({"bake", "--set", "export.12.on_sh"}),
              ElementsAre("export.12.on_shape_fallback="));
  EXPECT_THAT(words({"bake", "--set", "export.x.on_sh"}), IsEmpty());
  EXPECT_THAT(words({"bake", "--set", "export.1.on_shape_fallback="}),
              ElementsAre("export.1.on_shape_fallback=refuse", "export.1.on_shape_fallback=allow"));
  EXPECT_THAT(words({"bake", "--set=quantization.sym=f"}),
              ElementsAre("--set=quantization.sym=false"));
}

TEST_F(Complete, ModelsOfTheHuggingFaceCacheAreOfferedBesideFiles) {
  const testing::TempFolder cache;
  std::filesystem::create_directories(cache / "models--org--small/snapshots/1");
  setenv("HF_HUB_CACHE", (cache / "").c_str(), 1);
  EXPECT_THAT(words({"baste", ""}), ElementsAre("org/small"));
  EXPECT_EQ(files({"baste", ""}), Files::kAll);
  unsetenv("HF_HUB_CACHE");
}

TEST_F(Complete, LinesHaveAShortNote) {
  EXPECT_EQ(candidate_lines(candidates(commands_, {"bak"})), "bake\tBakes a cake\n");
  EXPECT_EQ(candidate_lines(candidates(commands_, {"bake", "--recipe", ""})), ":file\t\n");
}

TEST(Completion, KnowsEveryCommandAndItsTargets) {
  resume::SavedRun saved;
  const auto commands = all_commands({saved});
  EXPECT_EQ(candidates(commands, {""}).words.size(), commands.size());
  std::vector<std::string> targets;
  for (const Candidate& candidate : candidates(commands, {"quantize", "m", ""}).words)
    targets.push_back(candidate.word);
  EXPECT_THAT(targets, Contains("Q4_K_M"));
  EXPECT_THAT(targets, Contains("gptq-4bit"));
  EXPECT_THAT(targets, Not(Contains("--for")));
}

}  // namespace
}  // namespace calque::cli
