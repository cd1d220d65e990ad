#include "formats/ggml_blocks.h"

#include <fmt/format.h>

#include <cassert>
#include <cmath>

#include "formats/ggml_bytes.h"
#include "calque/core/error.h"
#include "calque/core/exec.h"
#include "calque/ggml/quantize.h"

namespace calque::formats {
namespace {

struct RowLayout {
  Index blocks;           // in a row
  Index block_elements;   // columns of a block
  Index groups_of_block;  // 1 for types that are no grid
  std::size_t block_bytes;

  std::size_t row_bytes() const { return static_cast<std::size_t>(blocks) * block_bytes; }
};

RowLayout layout_of(io::GgmlType type, Index cols, Index group_size) {
  const io::GgmlTypeInfo& info = io::info_of(type);
  return {cols / info.block_elements, info.block_elements,
          group_size > 0 ? info.block_elements / group_size : 1,
          static_cast<std::size_t>(info.block_bytes)};
}

Index row_at(RowOrder order, Index file_row) {
  return order.empty() ? file_row : order[static_cast<std::size_t>(file_row)];
}

void require_half(float value, const char* what, Index row, Index group) {
  if (rounded_to_half(value) == value) return;
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("{} {} of row {}, group {} is not a binary16 number", what, value, row, group));
}

void require_storable(const BlockCodec& codec, const quant::QuantizedMatrix& q) {
  for (Index n = 0; n < q.scales_NG.rows(); ++n)
    for (Index g = 0; g < q.scales_NG.cols(); ++g) {
      require_half(q.scales_NG(n, g), "scale", n, g);
      if (codec.grid.offset_kind == OffsetKind::kMinimum)
        require_half(q.offsets_NG(n, g), "minimum", n, g);
    }
}

std::optional<DType> plain_dtype(io::GgmlType type) {
  switch (type) {
    case io::GgmlType::kF32:
      return DType::kF32;
    case io::GgmlType::kF16:
      return DType::kF16;
    case io::GgmlType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::vector<Index> interleaved_rows(Index rows, Index heads) {
  std::vector<Index> order;
  if (heads <= 0) return order;
  const Index head_rows = rows / heads;
  const Index half = head_rows / 2;
  for (Index head = 0; head < heads; ++head)
    for (Index r = 0; r < head_rows; ++r) order.push_back(head * head_rows + r % 2 * half + r / 2);
  return order;
}

std::vector<std::byte> pack_blocks(const BlockCodec& codec, const quant::QuantizedMatrix& q,
                                   RowOrder order) {
  require_storable(codec, q);
  const RowLayout layout = layout_of(codec.type, q.in_features(), codec.grid.group_size);
  std::vector<std::byte> bytes(static_cast<std::size_t>(q.out_features()) * layout.row_bytes());
  std::byte* block = bytes.data();
  for (Index r = 0; r < q.out_features(); ++r) {
    const Index n = row_at(order, r);
    for (Index b = 0; b < layout.blocks; ++b, block += layout.block_bytes)
      codec.pack({q.codes_NK.row(n) + b * layout.block_elements,
                  q.scales_NG.row(n) + b * layout.groups_of_block,
                  q.offsets_NG.row(n) + b * layout.groups_of_block},
                 block);
  }
  return bytes;
}

quant::QuantizedMatrix unpack_blocks(const BlockCodec& codec, std::span<const std::byte> bytes,
                                     Index rows, Index cols, RowOrder order) {
  const RowLayout layout = layout_of(codec.type, cols, codec.grid.group_size);
  assert(bytes.size() == static_cast<std::size_t>(rows) * layout.row_bytes());
  quant::QuantizedMatrix q;
  q.grid = codec.grid;
  q.codes_NK = Matrix<std::uint8_t>::uninitialized(rows, cols);
  q.scales_NG = Matrix<float>::uninitialized(rows, layout.blocks * layout.groups_of_block);
  q.offsets_NG = Matrix<float>::uninitialized(rows, layout.blocks * layout.groups_of_block);
  const std::byte* block = bytes.data();
  for (Index r = 0; r < rows; ++r) {
    const Index n = row_at(order, r);
    for (Index b = 0; b < layout.blocks; ++b, block += layout.block_bytes)
      codec.unpack(block, {q.codes_NK.row(n) + b * layout.block_elements,
                           q.scales_NG.row(n) + b * layout.groups_of_block,
                           q.offsets_NG.row(n) + b * layout.groups_of_block});
  }
  return q;
}

Matrix<float> decode_blocks(io::GgmlType type, std::span<const std::byte> bytes, Index rows,
                            Index cols, RowOrder order) {
  const std::optional<DType> dtype = plain_dtype(type);
  if (!dtype && !is_ggml_block(static_cast<std::uint32_t>(type)))
    throw Error(ErrorKind::kInput, "",
                fmt::format("type {} cannot be decoded; calque reads F32, F16, BF16, Q8_0, Q5_1, "
                            "Q5_0, Q4_1, Q4_0, Q2_K ... Q6_K, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0 and "
                            "MXFP4",
                            io::info_of(type).name));
  const std::size_t row_bytes = layout_of(type, cols, 0).row_bytes();
  const Exec exec = open_exec("cpu", 1);
  auto values = Matrix<float>::uninitialized(rows, cols);
  for (Index r = 0; r < rows; ++r) {
    const auto row = bytes.subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes);
    float* target = values.row(row_at(order, r));
    if (dtype)
      convert_to_float(row.data(), *dtype, static_cast<std::size_t>(cols), target);
    else
      ggml_dequantize(static_cast<GgmlBlock>(type), row, MatrixView<float>(target, 1, cols), exec);
  }
  return values;
}

}  // namespace calque::formats
