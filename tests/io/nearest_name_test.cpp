#include "io/nearest_name.h"

#include <gtest/gtest.h>

#include <vector>

#include "io/printable.h"

namespace calque::io {
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

TEST(NearestName, IsEmptyWithoutNames) { EXPECT_EQ(nearest_name("a", {}), ""); }

TEST(Printable, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(printable(std::string("a\x1b[2J\0\xff", 7)), "'a\\x1b[2J\\x00\\xff'");
}

TEST(Printable, CutsLongText) {
  EXPECT_EQ(printable(std::string(5'000, 'x')), "'" + std::string(80, 'x') + "...'");
}

}  // namespace
}  // namespace calque::io
