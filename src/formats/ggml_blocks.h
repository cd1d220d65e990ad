#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "calque/io/gguf.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

// One block of one ggml type on its way between bytes and the neutral form: codes, and a scale and
// an offset for each of its groups. (formats_gguf.md section 2)
struct BlockParts {
  std::uint8_t* codes;
  float* scales;
  float* offsets;
};
struct ConstBlockParts {
  const std::uint8_t* codes;
  const float* scales;
  const float* offsets;
};

// How one of ggml's older types stores a grid. The bytes are exactly `info_of(type).block_bytes`
// long.
struct BlockCodec {
  io::GgmlType type;
  quant::Grid grid;  // what unpacking gives
  void (*unpack)(const std::byte* block, BlockParts parts);
  void (*pack)(ConstBlockParts parts, std::byte* block);
};

// Null for every other type.
const BlockCodec* find_block_codec(io::GgmlType type);

// Rows of the file in order of the file: file row r holds matrix row `order[r]`; empty: r.
using RowOrder = std::span<const Index>;

// The rows that GGUF's architecture "llama" stores for a matrix of `heads` heads, whose rotation
// takes adjacent rows where Hugging Face takes halves (section 5.4): empty for heads = 0.
std::vector<Index> interleaved_rows(Index rows, Index heads);

// Bytes of the whole matrix. No rounding: Error(kInternal) if a scale or minimum is no binary16
// number.
std::vector<std::byte> pack_blocks(const BlockCodec& codec, const quant::QuantizedMatrix& q,
                                   RowOrder order);

// `bytes` holds `rows` rows of `cols` elements (checked by the container).
quant::QuantizedMatrix unpack_blocks(const BlockCodec& codec, std::span<const std::byte> bytes,
                                     Index rows, Index cols, RowOrder order);

// fp32 values of any type that calque reads; Error(kInput) for another one.
Matrix<float> decode_blocks(io::GgmlType type, std::span<const std::byte> bytes, Index rows,
                            Index cols, RowOrder order);

}  // namespace calque::formats
