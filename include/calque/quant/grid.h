#pragma once

#include <optional>
#include <string>

#include "calque/core/matrix.h"
#include "calque/ggml/types.h"
#include "calque/kernels/scale_search.h"

namespace calque::quant {

// Which numbers a quantized matrix can represent: value = scale * code + offset with codes in
// [0, 2^bits), one scale and offset for `group_size` consecutive inputs of a row.
struct Grid {
  int bits = 4;
  Index group_size = 128;  // -1: the whole row
  OffsetKind offset_kind = OffsetKind::kMiddleCode;
  ScalePrecision precision = ScalePrecision::kF16;  // in which scales (and minima) are stored
  int min_zero = 0;       // kZeroPoint: GPTQ v1 cannot store a zero point of 0 portably, so 1 there
  bool desc_act = false;  // GPTQ's activation-ordered groups: group_of_column_K is stored (g_idx)
  // A type of GGUF whose scales are numbers of a grid themselves, or whose codes stand for a table:
  // a QuantizedMatrix holds BlockRows then, and the fields above do no more than describe it.
  std::optional<ggml::Type> block = std::nullopt;

  int max_code() const { return (1 << bits) - 1; }
  Index group_size_for(Index in_features) const {
    return group_size < 0 ? in_features : group_size;
  }
  Index groups(Index in_features) const { return in_features / group_size_for(in_features); }
  bool divides(Index in_features) const {
    return in_features %
               (block ? ggml::info_of(*block).block_columns : group_size_for(in_features)) ==
           0;
  }
  std::string description() const;  // "4 bit, group 128, symmetric, f16 scales"; "Q4_K blocks"
  bool operator==(const Grid&) const = default;
};

Grid block_grid(ggml::Type block);

}  // namespace calque::quant
