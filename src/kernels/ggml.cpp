#include "calque/kernels/ggml.h"

#include <algorithm>

#include "calque/core/error.h"
#include "kernels/checks.h"
#include "kernels/kernel_table.h"

namespace calque {
namespace {

// Rows a worker takes at a time: enough weights to outweigh the hand-over.
Index rows_per_task(Index columns) {
  constexpr Index kWeights = 1 << 15;
  return std::max<Index>(1, kWeights / std::max<Index>(1, columns));
}

// body(first row, rows)
template <typename Body>
void for_each_rows(Index rows, Index columns, const Exec& exec, Body body) {
  const Index step = rows_per_task(columns);
  exec.backend().workers.for_each((rows + step - 1) / step, [&](Index task) {
    body(task * step, std::min(step, rows - task * step));
  });
}

const ggml::Structure& structure_of(ggml::Type type) {
  if (const ggml::Structure* structure = ggml::info_of(type).structure) return *structure;
  throw Error(ErrorKind::kInternal, "", "ggml_fields: a block type without scale codes");
}

}  // namespace

void ggml_quantize(ggml::Type type, MatrixView<const float> weight_NK,
                   std::span<const float> importance_K, std::span<std::byte> out,
                   const Exec& exec) {
  const auto stride = static_cast<Index>(ggml::row_bytes(type, weight_NK.cols()));
  expect_length("ggml_quantize", "out", out.size(), weight_NK.rows() * stride);
  if (!importance_K.empty())
    expect_length("ggml_quantize", "importance_K", importance_K.size(), weight_NK.cols());
  for_each_rows(weight_NK.rows(), weight_NK.cols(), exec, [&](Index first, Index rows) {
    ggml::quantize(type, weight_NK.rows(first, rows), importance_K, out.data() + first * stride);
  });
}

void ggml_dequantize(ggml::Type type, std::span<const std::byte> bytes, MatrixView<float> weight_NK,
                     const Exec& exec) {
  const auto stride = static_cast<Index>(ggml::row_bytes(type, weight_NK.cols()));
  expect_length("ggml_dequantize", "bytes", bytes.size(), weight_NK.rows() * stride);
  for_each_rows(weight_NK.rows(), weight_NK.cols(), exec, [&](Index first, Index rows) {
    ggml::dequantize(type, bytes.data() + first * stride, weight_NK.rows(first, rows));
  });
}

ggml::Fields ggml_fields(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                         Index columns, const Exec& exec) {
  const auto stride = static_cast<Index>(ggml::row_bytes(type, columns));
  ggml::Fields fields = ggml::empty_fields(structure_of(type), rows, columns);
  expect_length("ggml_fields", "bytes", bytes.size(), rows * stride);
  exec.backend().workers.for_each(
      rows, [&](Index n) { ggml::load_fields(type, bytes.data() + n * stride, n, fields); });
  return fields;
}

void store_ggml_fields(ggml::Type type, const ggml::Fields& fields, std::span<std::byte> out,
                       const Exec& exec) {
  const Index rows = fields.codes_NK.rows();
  const auto stride = static_cast<Index>(ggml::row_bytes(type, fields.codes_NK.cols()));
  expect_length("store_ggml_fields", "out", out.size(), rows * stride);
  exec.backend().workers.for_each(
      rows, [&](Index n) { ggml::store_fields(type, fields, n, out.data() + n * stride); });
}

ggml::VectorFields ggml_vectors(ggml::Type type, std::span<const std::byte> bytes, Index rows,
                                Index columns, const Exec& exec) {
  const auto stride = static_cast<Index>(ggml::row_bytes(type, columns));
  ggml::VectorFields fields = ggml::empty_vector_fields(*ggml::vectors_of(type), rows, columns);
  expect_length("ggml_vectors", "bytes", bytes.size(), rows * stride);
  exec.backend().workers.for_each(
      rows, [&](Index n) { ggml::load_vectors(type, bytes.data() + n * stride, n, fields); });
  return fields;
}

void store_ggml_vectors(ggml::Type type, const ggml::VectorFields& fields, std::span<std::byte> out,
                        const Exec& exec) {
  const Index rows = fields.steps_NS.rows();
  const Index columns = fields.steps_NS.cols() * ggml::vectors_of(type)->super;
  const auto stride = static_cast<Index>(ggml::row_bytes(type, columns));
  expect_length("store_ggml_vectors", "out", out.size(), rows * stride);
  exec.backend().workers.for_each(
      rows, [&](Index n) { ggml::store_vectors(type, fields, n, out.data() + n * stride); });
}

}  // namespace calque
