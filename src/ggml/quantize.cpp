#include "calque/ggml/quantize.h"

#include <fmt/format.h>

#include <algorithm>

#include "calque/core/error.h"
#include "kernels/checks.h"
#include "kernels/kernel_table.h"
#include "ggml/copies.h"

namespace calque {
namespace {

// The codecs exist once for each instruction set; asked once, the processor says which it can run,
// and the widest of those does all the work.
const ggml::Copy& chosen_copy() {
  static const ggml::Copy& widest = ggml::runnable_copies().back();
  return widest;
}

const ggml::Codec& codec_of(GgmlBlock type) {
  if (const ggml::Codec* codec = chosen_copy().find_codec(type)) return *codec;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("ggml type {} has no block codec", static_cast<std::uint32_t>(type)));
}

std::size_t row_bytes(const ggml::Codec& codec, Index columns) {
  expect_range("ggml_row_bytes", "columns beyond the last whole block", columns % codec.columns, 0,
               0);
  return static_cast<std::size_t>(columns / codec.columns) * codec.bytes;
}

// Rows a worker takes at a time: enough weights to outweigh the hand-over.
Index rows_per_task(Index columns) {
  constexpr Index kWeights = 1 << 15;
  return std::max<Index>(1, kWeights / std::max<Index>(1, columns));
}

template <typename Body>
void for_each_row(Index rows, Index columns, const Exec& exec, Body body) {
  const Index step = rows_per_task(columns);
  exec.backend().workers.for_each((rows + step - 1) / step, [&](Index task) {
    for (Index n = task * step; n < std::min(rows, (task + 1) * step); ++n) body(n);
  });
}

}  // namespace

bool is_ggml_block(std::uint32_t type_id) {
  return chosen_copy().find_codec(static_cast<GgmlBlock>(type_id)) != nullptr;
}

std::string_view ggml_instruction_set() { return chosen_copy().instruction_set; }

Index ggml_block_columns(GgmlBlock type) { return codec_of(type).columns; }
std::size_t ggml_block_bytes(GgmlBlock type) { return codec_of(type).bytes; }

std::size_t ggml_row_bytes(GgmlBlock type, Index columns) {
  return row_bytes(codec_of(type), columns);
}

void ggml_quantize(GgmlBlock type, MatrixView<const float> weight_NK,
                   std::span<const float> importance_K, std::span<std::byte> out,
                   const Exec& exec) {
  const ggml::Codec& codec = codec_of(type);
  const std::size_t bytes = row_bytes(codec, weight_NK.cols());
  expect_length("ggml_quantize", "out", out.size(), weight_NK.rows() * static_cast<Index>(bytes));
  if (!importance_K.empty())
    expect_length("ggml_quantize", "importance_K", importance_K.size(), weight_NK.cols());
  const float* importance = importance_K.empty() ? nullptr : importance_K.data();
  for_each_row(weight_NK.rows(), weight_NK.cols(), exec, [&](Index n) {
    codec.quantize({weight_NK.row(n), importance, weight_NK.cols()},
                   out.data() + static_cast<std::size_t>(n) * bytes);
  });
}

void ggml_dequantize(GgmlBlock type, std::span<const std::byte> bytes, MatrixView<float> weight_NK,
                     const Exec& exec) {
  const ggml::Codec& codec = codec_of(type);
  const std::size_t stride = row_bytes(codec, weight_NK.cols());
  expect_length("ggml_dequantize", "bytes", bytes.size(),
                weight_NK.rows() * static_cast<Index>(stride));
  for_each_row(weight_NK.rows(), weight_NK.cols(), exec, [&](Index n) {
    codec.dequantize(bytes.data() + static_cast<std::size_t>(n) * stride, weight_NK.cols(),
                     weight_NK.row(n));
  });
}

}  // namespace calque
