#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/ggml/quantize.h"

namespace calque {

// What a block type can say. Column k of group g of super-block s stands for
//   scale * levels[code] + offset,
//   scale = step_s * scale_code_g,  offset = -minimum_step_s * minimum_code_g (with minima).
struct GgmlStructure {
  Index group;                      // columns
  Index super;                      // columns of a super-block, which is one block of the file
  std::span<const float> levels;    // by code, rising
  int lowest_scale, highest_scale;  // of the scale codes; both 1: the step is the scale
  int highest_minimum;              // of the minimum codes, from 0; 0: no minima

  bool has_minima() const { return highest_minimum > 0; }
  // Empty where the levels are consecutive integers: then levels[code] = levels[0] + code.
  std::span<const float> table() const;
};

// Null for types whose scales are no product of a step and a code (the older ones, TQ*, MXFP4).
const GgmlStructure* find_ggml_structure(GgmlBlock type);

// Rows of blocks taken apart.
struct GgmlFields {
  Matrix<std::uint8_t> codes_NK;
  Matrix<std::int8_t> scale_codes_NG;
  Matrix<std::int8_t> minimum_codes_NG;  // zeros without minima, as the next but one
  Matrix<float> steps_NS;                // binary16 values
  Matrix<float> minimum_steps_NS;

  GgmlFields clone() const;
};

// Bytes of whole rows to fields and back: no rounding, whichever way, where the steps are finite.
// Throws Error(kInternal) for a type without a structure. scale * levels[code] is exact in fp32, so
// the value has the bits of ggml_dequantize.
GgmlFields ggml_fields(GgmlBlock type, std::span<const std::byte> bytes, Index rows, Index columns,
                       const Exec& exec);
void store_ggml_fields(GgmlBlock type, const GgmlFields& fields, std::span<std::byte> out,
                       const Exec& exec);

}  // namespace calque
