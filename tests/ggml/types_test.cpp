#include "calque/ggml/types.h"

#include <gtest/gtest.h>

namespace calque::ggml {
namespace {

// Sizes by hand from the fields of a block, see ggml's block structures.
TEST(GgmlTypes, KnowTheirBlocks) {
  const auto expect = [](std::uint32_t id, std::string_view name, Index columns,
                         std::size_t bytes) {
    const TypeInfo* info = find_type(id);
    ASSERT_NE(info, nullptr) << id;
    EXPECT_EQ(info->name, name);
    EXPECT_EQ(info->block_columns, columns) << name;
    EXPECT_EQ(info->block_bytes, bytes) << name;
    EXPECT_EQ(find_type(name), info);
    EXPECT_EQ(&info_of(info->type), info);
  };
  expect(0, "F32", 1, 4);
  expect(1, "F16", 1, 2);
  expect(2, "Q4_0", 32, 2 + 16);
  expect(3, "Q4_1", 32, 2 + 2 + 16);
  expect(6, "Q5_0", 32, 2 + 4 + 16);
  expect(7, "Q5_1", 32, 2 + 2 + 4 + 16);
  expect(8, "Q8_0", 32, 2 + 32);
  expect(9, "Q8_1", 32, 2 + 2 + 32);
  expect(10, "Q2_K", 256, 16 + 64 + 2 + 2);
  expect(11, "Q3_K", 256, 32 + 64 + 12 + 2);
  expect(12, "Q4_K", 256, 2 + 2 + 12 + 128);
  expect(13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128);
  expect(14, "Q6_K", 256, 128 + 64 + 16 + 2);
  expect(15, "Q8_K", 256, 4 + 256 + 2 * 16);
  expect(16, "IQ2_XXS", 256, 2 + 2 * 32);
  expect(17, "IQ2_XS", 256, 2 + 2 * 32 + 8);
  expect(18, "IQ3_XXS", 256, 2 + 3 * 32);
  expect(19, "IQ1_S", 256, 2 + 32 + 2 * 8);
  expect(20, "IQ4_NL", 32, 2 + 16);
  expect(21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4);
  expect(22, "IQ2_S", 256, 2 + 64 + 8 + 8);
  expect(23, "IQ4_XS", 256, 2 + 2 + 4 + 128);
  expect(24, "I8", 1, 1);
  expect(25, "I16", 1, 2);
  expect(26, "I32", 1, 4);
  expect(27, "I64", 1, 8);
  expect(28, "F64", 1, 8);
  expect(29, "IQ1_M", 256, 32 + 16 + 8);
  expect(30, "BF16", 1, 2);
  expect(34, "TQ1_0", 256, 48 + 4 + 2);
  expect(35, "TQ2_0", 256, 64 + 2);
  expect(39, "MXFP4", 32, 1 + 16);
}

TEST(GgmlTypes, DoNotKnowOthers) {
  EXPECT_EQ(find_type(4u), nullptr);
  EXPECT_EQ(find_type("q4_0"), nullptr);
  EXPECT_EQ(find_type(""), nullptr);
}

// Every type that is written as blocks can be costed and described.
TEST(GgmlTypes, OfBlocksAreWholeRowsOfTheTable) {
  for (const TypeInfo& info : types()) {
    if (!info.quantized()) continue;
    EXPECT_GT(info.nanoseconds, 0) << info.name;
    EXPECT_GT(info.code_bits, 0) << info.name;
    EXPECT_EQ(info.block_columns % info.group, 0) << info.name;
    if (info.structure == nullptr) continue;
    EXPECT_EQ(info.structure->group, info.group) << info.name;
    EXPECT_EQ(info.structure->super, info.block_columns) << info.name;
    EXPECT_EQ(info.structure->has_minima(), info.has_minimum) << info.name;
    EXPECT_EQ(std::ssize(info.structure->levels), 1 << info.code_bits) << info.name;
  }
}

}  // namespace
}  // namespace calque::ggml
