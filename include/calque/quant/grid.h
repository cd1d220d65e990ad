#pragma once

#include <optional>
#include <string>

#include "calque/core/matrix.h"
#include "calque/core/small_float.h"
#include "calque/ggml/types.h"
#include "calque/kernels/scale_search.h"

namespace calque::quant {

// The values that a quantized matrix can hold: scale * code + offset with codes in [0, 2^bits), and
// one scale and offset per `group_size` consecutive inputs of a row. Codes that are floating-point
// numbers stand for scale * number.
struct Grid {
  int bits = 4;
  Index group_size = 128;  // -1: the whole row
  OffsetKind offset_kind = OffsetKind::kMiddleCode;
  ScalePrecision precision = ScalePrecision::kF16;  // precision of stored scales and minima
  int min_zero = 0;  // kZeroPoint: GPTQ v1 cannot store a zero point of 0 portably, so 1 there
  // kMinimum: rounding to nearest with min-max scales gives what mlx.core.quantize gives.
  bool mlx = false;
  bool desc_act = false;  // GPTQ's activation-ordered groups: group_of_column_K is stored (g_idx)
  // The codes are the bits of numbers of this type, and offsets are 0 (offset_kind says symmetric);
  // nullopt: the codes are integers.
  std::optional<SmallFloat> number = std::nullopt;
  // Neighbouring rows that share the scale of each group: 1, the height of a block, or kAllRows.
  Index scale_rows = 1;
  // kAllRows: the scale; precision kE4M3: the divisor of all scales. Chosen beforehand because
  // several matrices share it (shared_scale.h); 0: chosen for the matrix.
  float given_scale = 0;
  // A GGUF type whose scales are codes themselves, or whose codes index a table. The
  // QuantizedMatrix then holds BlockRows, and the fields above only describe it.
  std::optional<ggml::Type> block = std::nullopt;

  int max_code() const { return (1 << bits) - 1; }
  Index group_size_for(Index in_features) const {
    return group_size < 0 ? in_features : group_size;
  }
  static constexpr Index kAllRows = -1;
  bool shares_a_number() const {
    return scale_rows == kAllRows || precision == ScalePrecision::kE4M3;
  }
  // The precision of scales that are codes themselves, which a scheme fixes; nullopt: others.
  std::optional<ScalePrecision> coded_scales() const {
    const bool coded = precision == ScalePrecision::kE4M3 || precision == ScalePrecision::kE8M0;
    return coded ? std::optional(precision) : std::nullopt;
  }
  Index scale_rows_for(Index out_features) const {
    return scale_rows < 0 ? out_features : scale_rows;
  }
  Index groups(Index in_features) const { return in_features / group_size_for(in_features); }
  bool divides(Index in_features) const {
    return in_features %
               (block ? ggml::info_of(*block).block_columns : group_size_for(in_features)) ==
           0;
  }
  std::string description() const;  // "4 bit, group 128, symmetric, f16 scales"; "FP8, whole rows,
                                    // bf16 scales"; "Q4_K blocks"
  bool operator==(const Grid&) const = default;
};

Grid block_grid(ggml::Type block);

}  // namespace calque::quant
