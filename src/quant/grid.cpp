#include "calque/quant/grid.h"

#include <fmt/format.h>

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
    case ScalePrecision::kE4M3:
      return "FP8";
    case ScalePrecision::kE8M0:
      return "power-of-two";
    case ScalePrecision::kBF16:
      break;
  }
  return "bf16";
}

}  // namespace

Grid block_grid(ggml::Type block) {
  const ggml::TypeInfo& info = ggml::info_of(block);
  return {.bits = info.code_bits,
          .group_size = info.group,
          .offset_kind = info.has_minimum ? OffsetKind::kMinimum : OffsetKind::kMiddleCode,
          .block = block};
}

std::string Grid::description() const {
  if (block) return fmt::format("{} blocks", ggml::info_of(*block).name);
  const std::string group = group_size < 0 ? "whole rows" : fmt::format("group {}", group_size);
  if (number)
    return fmt::format("{}, {}{}, {} scales", info_of(*number).title, group,
                       scale_rows == 1  ? ""
                       : scale_rows < 0 ? " of one scale"
                                        : fmt::format(" of {} rows", scale_rows),
                       name_of(precision));
  return fmt::format("{} bit, {}, {}, {} scales{}", bits, group, name_of(offset_kind),
                     name_of(precision), desc_act ? ", groups in activation order" : "");
}

}  // namespace calque::quant
