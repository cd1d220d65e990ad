#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "calque/core/exec.h"
#include "calque/core/matrix.h"

namespace calque {

// Block types of GGUF files that can be written here; the values are the format's type ids.
enum class GgmlBlock : std::uint32_t {
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
};

// Whether `type_id` is one of them.
bool is_ggml_block(std::uint32_t type_id);

// Weights in a block, and the block's bytes.
Index ggml_block_columns(GgmlBlock type);
std::size_t ggml_block_bytes(GgmlBlock type);

// Bytes of a row of `columns` weights, a multiple of the block.
std::size_t ggml_row_bytes(GgmlBlock type, Index columns);

// The reference quantizers of the format, bit for bit: row n of the matrix becomes the
// ggml_row_bytes(type, K) bytes at out + n * ggml_row_bytes(type, K). `importance_K` weighs the
// columns (empty: none); Q8_0, MXFP4 and TQ* pay no attention to it. A block whose importance is
// all zero becomes zeros in most types, so callers keep it positive.
void ggml_quantize(GgmlBlock type, MatrixView<const float> weight_NK,
                   std::span<const float> importance_K, std::span<std::byte> out, const Exec& exec);

// What the bytes of `weight_NK.rows()` rows stand for.
void ggml_dequantize(GgmlBlock type, std::span<const std::byte> bytes, MatrixView<float> weight_NK,
                     const Exec& exec);

// The instruction set that both functions use here, the widest of those compiled in that the
// processor has: "baseline", "avx2" or "avx512". The bytes do not depend on it.
std::string_view ggml_instruction_set();

}  // namespace calque
