#include "calque/quant/quantized_matrix.h"

#include <cmath>
#include <span>

#include "calque/ggml/blocks.h"

namespace calque::quant {

Index QuantizedMatrix::out_features() const {
  const auto* rows = std::get_if<BlockRows>(&stored);
  return rows != nullptr ? rows->rows_NB.rows() : groups().codes_NK.rows();
}

Index QuantizedMatrix::in_features() const {
  const auto* rows = std::get_if<BlockRows>(&stored);
  if (rows == nullptr) return groups().codes_NK.cols();
  return rows->rows_NB.cols() / static_cast<Index>(ggml::info_of(*grid.block).block_bytes) *
         ggml::info_of(*grid.block).block_columns;
}

Matrix<std::uint8_t> GroupCodes::zeros_NG() const {
  Matrix<std::uint8_t> zeros(scales_NG.rows(), scales_NG.cols());
  for (Index n = 0; n < zeros.rows(); ++n)
    for (Index g = 0; g < zeros.cols(); ++g)
      zeros(n, g) = static_cast<std::uint8_t>(std::rint(-offsets_NG(n, g) / scales_NG(n, g)));
  return zeros;
}

std::vector<std::int32_t> consecutive_groups(Index in_features, Index group_size) {
  std::vector<std::int32_t> groups(static_cast<std::size_t>(in_features));
  for (Index k = 0; k < in_features; ++k)
    groups[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(k / group_size);
  return groups;
}

namespace {

Matrix<float> dequantize_blocks(const QuantizedMatrix& q, Index first, Index count) {
  auto values = Matrix<float>::uninitialized(count, q.in_features());
  const MatrixView<const std::uint8_t> rows_NB = q.blocks().rows_NB.view().rows(first, count);
  const std::span bytes(rows_NB.data(), static_cast<std::size_t>(rows_NB.size()));
  ggml::dequantize(*q.grid.block, std::as_bytes(bytes).data(), values.view());
  return values;
}

// Adjacent columns of the same group.
struct Run {
  Index begin = 0;
  Index end = 0;
  std::int32_t group = 0;
};

std::vector<Run> runs_of(const std::vector<std::int32_t>& group_of_column_K) {
  std::vector<Run> runs;
  for (Index k = 0; k < std::ssize(group_of_column_K); ++k) {
    const std::int32_t group = group_of_column_K[static_cast<std::size_t>(k)];
    if (runs.empty() || runs.back().group != group) runs.push_back({k, k, group});
    runs.back().end = k + 1;
  }
  return runs;
}

}  // namespace

Matrix<float> dequantize(const QuantizedMatrix& q) { return dequantize(q, 0, q.out_features()); }

Matrix<float> dequantize(const QuantizedMatrix& q, Index first, Index count) {
  if (std::holds_alternative<BlockRows>(q.stored)) return dequantize_blocks(q, first, count);
  const GroupCodes& stored = q.groups();
  const std::vector<Run> runs =
      runs_of(stored.group_of_column_K.empty()
                  ? consecutive_groups(q.in_features(), q.grid.group_size_for(q.in_features()))
                  : stored.group_of_column_K);
  auto values = Matrix<float>::uninitialized(count, q.in_features());
  for (Index n = 0; n < count; ++n) {
    const std::uint8_t* codes = stored.codes_NK.row(first + n);
    const float* scales = stored.scales_NG.row(first + n);
    const float* offsets = stored.offsets_NG.row(first + n);
    float* row = values.row(n);
    if (q.grid.number) {
      const std::span<const float> numbers = values_of(*q.grid.number);
      for (const Run& run : runs)
        for (Index k = run.begin; k < run.end; ++k) row[k] = scales[run.group] * numbers[codes[k]];
      continue;
    }
    for (const Run& run : runs) {
      const float scale = scales[run.group], offset = offsets[run.group];
      for (Index k = run.begin; k < run.end; ++k)
        row[k] = scale * static_cast<float>(codes[k]) + offset;
    }
  }
  return values;
}

}  // namespace calque::quant
