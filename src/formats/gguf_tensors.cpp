#include "formats/gguf_tensors.h"

#include <fmt/format.h>

#include <cassert>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/ggml/blocks.h"
#include "calque/io/gguf.h"

namespace calque::formats {
namespace {

Index row_at(RowOrder order, Index file_row) {
  return order.empty() ? file_row : order[static_cast<std::size_t>(file_row)];
}

void require_half(float value, const char* what, Index row, Index group) {
  if (rounded_to_half(value) == value) return;
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("{} {} of row {}, group {} is not a binary16 number", what, value, row, group));
}

void require_storable(const ggml::TypeInfo& info, const quant::QuantizedMatrix& q) {
  for (Index n = 0; n < q.groups().scales_NG.rows(); ++n)
    for (Index g = 0; g < q.groups().scales_NG.cols(); ++g) {
      require_half(q.groups().scales_NG(n, g), "scale", n, g);
      if (info.has_minimum) require_half(q.groups().offsets_NG(n, g), "minimum", n, g);
    }
}

}  // namespace

ggml::Type gguf_written_type(std::string_view name) {
  const ggml::TypeInfo* info = ggml::find_type(name);
  assert(info != nullptr && info->supported());
  return info->type;
}

quant::Grid neutral_grid(ggml::Type type) {
  const ggml::TypeInfo& info = ggml::info_of(type);
  assert(info.support == ggml::Support::kGrid);
  return {.bits = info.code_bits,
          .group_size = info.group,
          .offset_kind = info.has_minimum ? OffsetKind::kMinimum : OffsetKind::kMiddleCode,
          .precision = ScalePrecision::kF16};
}

std::optional<quant::Grid> gguf_grid(ggml::Type type, bool reference_rounding) {
  const ggml::TypeInfo& info = ggml::info_of(type);
  if (info.support == ggml::Support::kGrid && !reference_rounding) return neutral_grid(type);
  if (!info.quantized()) return std::nullopt;
  return quant::block_grid(type);
}

std::uint64_t gguf_bytes(ggml::Type type, const std::vector<Index>& shape) {
  return io::GgufTensorDeclaration{"", type, ne_of(shape)}.byte_count();
}

std::vector<std::uint64_t> ne_of(const std::vector<Index>& shape) {
  std::vector<std::uint64_t> ne;
  for (std::size_t i = shape.size(); i-- > 0;)
    if (shape[i] != 1 || i == 0 || i + 1 == shape.size())
      ne.push_back(static_cast<std::uint64_t>(shape[i]));
  return ne;
}

std::vector<Index> interleaved_rows(Index rows, Index heads) {
  std::vector<Index> order;
  if (heads <= 0) return order;
  const Index head_rows = rows / heads;
  const Index half = head_rows / 2;
  for (Index head = 0; head < heads; ++head)
    for (Index r = 0; r < head_rows; ++r) order.push_back(head * head_rows + r % 2 * half + r / 2);
  return order;
}

std::vector<Index> row_order_of(const model::TensorSpec& tensor) {
  if (tensor.gguf_permuted_heads > 0)
    return interleaved_rows(tensor.shape[0], tensor.gguf_permuted_heads);
  return tensor.gguf_rows.order(tensor.shape[0]);
}

std::vector<Index> column_order_of(const model::TensorSpec& tensor) {
  return tensor.gguf_columns.order(tensor.shape.back());
}

std::vector<std::byte> pack_rows(ggml::Type type, const quant::QuantizedMatrix& q, RowOrder order) {
  require_storable(ggml::info_of(type), q);
  const std::size_t row_bytes = ggml::row_bytes(type, q.in_features());
  std::vector<std::byte> bytes(static_cast<std::size_t>(q.out_features()) * row_bytes);
  for (Index r = 0; r < q.out_features(); ++r) {
    const Index n = row_at(order, r);
    ggml::store_grid(type, q.groups().codes_NK.row(n), q.groups().scales_NG.row(n),
                     q.groups().offsets_NG.row(n), q.in_features(),
                     bytes.data() + static_cast<std::size_t>(r) * row_bytes);
  }
  return bytes;
}

quant::QuantizedMatrix unpack_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                                   Index cols, RowOrder order) {
  const std::size_t row_bytes = ggml::row_bytes(type, cols);
  assert(bytes.size() == static_cast<std::size_t>(rows) * row_bytes);
  quant::QuantizedMatrix q;
  q.grid = neutral_grid(type);
  q.groups().codes_NK = Matrix<std::uint8_t>::uninitialized(rows, cols);
  q.groups().scales_NG = Matrix<float>::uninitialized(rows, q.grid.groups(cols));
  q.groups().offsets_NG = Matrix<float>::uninitialized(rows, q.grid.groups(cols));
  for (Index r = 0; r < rows; ++r) {
    const Index n = row_at(order, r);
    ggml::load_grid(type, bytes.data() + static_cast<std::size_t>(r) * row_bytes, cols,
                    q.groups().codes_NK.row(n), q.groups().scales_NG.row(n),
                    q.groups().offsets_NG.row(n));
  }
  return q;
}

Matrix<float> decode_rows(ggml::Type type, std::span<const std::byte> bytes, Index rows, Index cols,
                          RowOrder order) {
  const ggml::TypeInfo& info = ggml::info_of(type);
  if (!info.supported())
    throw Error(ErrorKind::kInput, "E175",
                fmt::format("type {} cannot be decoded; calque reads F32, F16, BF16, Q8_0, Q5_1, "
                            "Q5_0, Q4_1, Q4_0, Q2_K ... Q6_K, IQ1_S ... IQ4_XS, TQ1_0, TQ2_0, "
                            "MXFP4 and NVFP4",
                            info.name));
  const std::size_t row_bytes = ggml::row_bytes(type, cols);
  auto values = Matrix<float>::uninitialized(rows, cols);
  for (Index r = 0; r < rows; ++r)
    ggml::dequantize(type, bytes.data() + static_cast<std::size_t>(r) * row_bytes,
                     MatrixView<float>(values.row(row_at(order, r)), 1, cols));
  return values;
}

}  // namespace calque::formats
