#include "config/hints.h"

#include <gtest/gtest.h>

namespace calque::config {
namespace {

TEST(Nearest, FindsOneEditAway) {
  const std::vector<std::string> names = {"bits", "group_size", "sym", "damp_percent"};
  EXPECT_EQ(nearest("group_sze", names), "group_size");    // a letter missing
  EXPECT_EQ(nearest("group_siize", names), "group_size");  // a letter too many
  EXPECT_EQ(nearest("btis", names), "bits");               // neighbours swapped
  EXPECT_EQ(nearest("damp-percent", names), "damp_percent");
}

TEST(Nearest, GivesNothingForAnotherWord) {
  EXPECT_EQ(nearest("temperature", {"bits", "group_size"}), std::nullopt);
  EXPECT_EQ(nearest("x", {"bits"}), std::nullopt);
  EXPECT_EQ(nearest(std::string(1000, 'a'), {std::string(1000, 'b')}), std::nullopt);
}

TEST(ForeignKeyHint, SaysWhatToWriteInstead) {
  EXPECT_EQ(foreign_key_hint("w_bit", "4"),
            "'w_bit' is AutoAWQ's name. Write 'bits: 4' in quantization");
  EXPECT_EQ(foreign_key_hint("num_calibration_samples", "512"),
            "'num_calibration_samples' is llm-compressor's name. Write 'n_samples: 512' in "
            "calibration");
  EXPECT_EQ(foreign_key_hint("bits", "4"), "");
}

TEST(ForeignKeyHint, TurnsZeroPointAround) {
  EXPECT_NE(foreign_key_hint("zero_point", "true").find("'sym: false'"), std::string::npos);
  EXPECT_NE(foreign_key_hint("zero_point", "false").find("'sym: true'"), std::string::npos);
}

}  // namespace
}  // namespace calque::config
