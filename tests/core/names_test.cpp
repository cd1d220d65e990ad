#include "calque/core/names.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace calque {
namespace {

TEST(NearestName, TakesTheFewestEdits) {
  const std::vector<std::string_view> names{"lm_head.weight", "model.layers.0.mlp.up_proj.weight",
                                            "model.layers.1.mlp.up_proj.weight"};
  EXPECT_EQ(nearest_name("model.layers.1.mpl.up_proj.weight", names), names[2]);
  EXPECT_EQ(nearest_name("lm_head", names), names[0]);
}

// By hand: kitten -> sitting takes 3 edits, kitten -> mitt takes 3, kitten -> kitchen takes 2.
TEST(NearestName, CountsInsertionsDeletionsAndReplacements) {
  const std::vector<std::string_view> names{"sitting", "mitt", "kitchen"};
  EXPECT_EQ(nearest_name("kitten", names), "kitchen");
}

TEST(NearestName, IgnoresCaseAndCountsASwapOnce) {
  const std::vector<std::string_view> names{"Q8_0", "Q4_K", "Q4_0"};
  EXPECT_EQ(nearest_name("q4_o", names), "Q4_K");  // one replacement, the first of equals
  EXPECT_EQ(edit_distance("gruop", "group"), 1u);
}

TEST(NearestName, IsEmptyWithoutNames) { EXPECT_EQ(nearest_name("a", {}), ""); }

TEST(QuoteName, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(quote_name(std::string("a\x1b[2J\0\xff", 7)), "'a\\x1b[2J\\x00\\xff'");
}

TEST(QuoteName, CutsLongText) {
  EXPECT_EQ(quote_name(std::string(5'000, 'x')), "'" + std::string(80, 'x') + "...'");
}

}  // namespace
}  // namespace calque
