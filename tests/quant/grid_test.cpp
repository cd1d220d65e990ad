#include "calque/quant/grid.h"

#include <gtest/gtest.h>

namespace calque::quant {
namespace {

TEST(Grid, DescribesItself) {
  EXPECT_EQ(Grid{}.description(), "4 bit, group 128, symmetric, f16 scales");
  EXPECT_EQ((Grid{.bits = 3,
                  .group_size = -1,
                  .offset_kind = OffsetKind::kZeroPoint,
                  .precision = ScalePrecision::kBF16})
                .description(),
            "3 bit, whole rows, asymmetric, bf16 scales");
  EXPECT_EQ((Grid{.group_size = 32,
                  .offset_kind = OffsetKind::kMinimum,
                  .precision = ScalePrecision::kF32})
                .description(),
            "4 bit, group 32, with minimum, f32 scales");
  EXPECT_EQ((Grid{.precision = ScalePrecision::kF16AndBF16, .desc_act = true}).description(),
            "4 bit, group 128, symmetric, f16 and bf16 scales, groups in activation order");
}

TEST(Grid, CountsGroups) {
  EXPECT_EQ((Grid{.group_size = 64}).groups(576), 9);
  EXPECT_EQ((Grid{.group_size = -1}).groups(576), 1);
  EXPECT_TRUE((Grid{.group_size = 64}).divides(576));
  EXPECT_FALSE((Grid{.group_size = 128}).divides(576));
  EXPECT_EQ((Grid{.bits = 5}).max_code(), 31);
}

}  // namespace
}  // namespace calque::quant
