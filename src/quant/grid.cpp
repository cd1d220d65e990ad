#include "calque/quant/grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace calque::quant {
namespace {

std::string_view name_of(OffsetKind kind) {
  switch (kind) {
    case OffsetKind::kMiddleCode:
      return "symmetric";
    case OffsetKind::kZeroPoint:
      return "asymmetric";
    case OffsetKind::kMinimum:
      break;
  }
  return "with minimum";
}

std::string_view name_of(ScalePrecision precision) {
  switch (precision) {
    case ScalePrecision::kF32:
      return "f32";
    case ScalePrecision::kF16:
      return "f16";
    case ScalePrecision::kF16AndBF16:
      return "f16 and bf16";
    case ScalePrecision::kBF16:
      break;
  }
  return "bf16";
}

struct BlockRow {
  GgmlBlock block;
  std::string_view name;
  int bits;
  Index group_size;
  OffsetKind offset_kind;
};

constexpr BlockRow kBlocks[] = {
    {GgmlBlock::kQ4_0, "Q4_0", 4, 32, OffsetKind::kMiddleCode},
    {GgmlBlock::kQ4_1, "Q4_1", 4, 32, OffsetKind::kMinimum},
    {GgmlBlock::kQ5_0, "Q5_0", 5, 32, OffsetKind::kMiddleCode},
    {GgmlBlock::kQ5_1, "Q5_1", 5, 32, OffsetKind::kMinimum},
    {GgmlBlock::kQ8_0, "Q8_0", 8, 32, OffsetKind::kMiddleCode},
    {GgmlBlock::kQ2_K, "Q2_K", 2, 16, OffsetKind::kMinimum},
    {GgmlBlock::kQ3_K, "Q3_K", 3, 16, OffsetKind::kMiddleCode},
    {GgmlBlock::kQ4_K, "Q4_K", 4, 32, OffsetKind::kMinimum},
    {GgmlBlock::kQ5_K, "Q5_K", 5, 32, OffsetKind::kMinimum},
    {GgmlBlock::kQ6_K, "Q6_K", 6, 16, OffsetKind::kMiddleCode},
    {GgmlBlock::kIQ4_NL, "IQ4_NL", 4, 32, OffsetKind::kMiddleCode},
    {GgmlBlock::kIQ4_XS, "IQ4_XS", 4, 32, OffsetKind::kMiddleCode},
    {GgmlBlock::kTQ1_0, "TQ1_0", 2, 256, OffsetKind::kMiddleCode},
    {GgmlBlock::kTQ2_0, "TQ2_0", 2, 256, OffsetKind::kMiddleCode},
    {GgmlBlock::kMXFP4, "MXFP4", 4, 32, OffsetKind::kMiddleCode},
};

const BlockRow& row_of(GgmlBlock block) {
  return *std::find_if(std::begin(kBlocks), std::end(kBlocks),
                       [&](const BlockRow& row) { return row.block == block; });
}

}  // namespace

Grid block_grid(GgmlBlock block) {
  const BlockRow& row = row_of(block);
  return {.bits = row.bits,
          .group_size = row.group_size,
          .offset_kind = row.offset_kind,
          .block = block};
}

std::string Grid::description() const {
  if (block) return fmt::format("{} blocks", row_of(*block).name);
  const std::string group = group_size < 0 ? "whole rows" : fmt::format("group {}", group_size);
  return fmt::format("{} bit, {}, {}, {} scales{}", bits, group, name_of(offset_kind),
                     name_of(precision), desc_act ? ", groups in activation order" : "");
}

}  // namespace calque::quant
