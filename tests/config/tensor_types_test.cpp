#include <gmock/gmock.h>

#include "config/job_text.h"

namespace calque::config {
namespace {

using ::testing::HasSubstr;

std::string job_with(const std::string& keys, const std::string& format = "gguf") {
  return "version: 1\n"
         "model: {path: models/tiny}\n"
         "quantization: {method: rtn}\n"
         "export:\n"
         "  - {format: " +
         format + ", path: out/a.gguf, " + keys + "}\n";
}

TEST(TensorTypesKey, KeepsTheOrderOfTheRules) {
  const JobFolder folder;
  const job::Job job = folder.load(
      job_with("tensor_types: [{match: 'blk\\.0\\.', type: Q8_0}, {type: Q6_K, match: ffn_down}]"));
  const std::vector<formats::TensorTypeRule> expected = {{"blk\\.0\\.", "Q8_0"},
                                                         {"ffn_down", "Q6_K"}};
  EXPECT_EQ(job.exports[0].tensor_types, expected);
  EXPECT_EQ(folder.load(resolved_yaml(job)).exports[0].tensor_types, expected);
}

TEST(TensorTypesKey, MayBeEmpty) {
  const JobFolder folder;
  EXPECT_TRUE(folder.load(job_with("tensor_types: []")).exports[0].tensor_types.empty());
  EXPECT_TRUE(folder.load(job_with("tensor_types: null")).exports[0].tensor_types.empty());
}

TEST(TensorTypesKey, SaysWhatARuleIs) {
  const JobFolder folder;
  const auto refusal = [&](const std::string& value) {
    return folder.refusal(job_with("tensor_types: " + value));
  };
  EXPECT_THAT(refusal("Q6_K"), HasSubstr("error[E105]: export.tensor_types must be a list of "
                                         "maps such as {match: ffn_down, type: Q6_K}, not"));
  EXPECT_THAT(refusal("[Q6_K]"), HasSubstr("must be a list of maps such as"));
  EXPECT_THAT(refusal("[{match: a, tpye: Q6_K}]"),
              HasSubstr("error[E101]: export.tensor_types has a rule with the unknown key "
                        "'tpye'; keys here: match, type"));
  EXPECT_THAT(refusal("[{match: a}]"), HasSubstr("error[E108]: export.tensor_types has a rule "
                                                 "without 'type'"));
  EXPECT_THAT(refusal("[{match: a, match: b, type: Q6_K}]"),
              HasSubstr("error[E102]: export.tensor_types has a rule with two keys 'match'"));
  EXPECT_THAT(refusal("[{match: '', type: Q6_K}]"), HasSubstr("match must not be empty"));
}

TEST(SplitKey, IsASizeOrNone) {
  const JobFolder folder;
  EXPECT_EQ(folder.load(job_with("split_max_size: 2GB")).exports[0].split_max_bytes,
            2'000'000'000u);
  EXPECT_EQ(folder.load(job_with("split_max_size: null")).exports[0].split_max_bytes, 0u);
  EXPECT_THAT(folder.refusal(job_with("split_max_size: 0")), HasSubstr("error[E106]"));
}

TEST(GgufKeys, MeanNothingInFolders) {
  const JobFolder folder;
  for (const std::string key : {"tensor_types: []", "pure: true", "split_max_size: 2GB"})
    EXPECT_THAT(folder.refusal(job_with(key, "gptq")), HasSubstr("error[E109]")) << key;
}

}  // namespace
}  // namespace calque::config
