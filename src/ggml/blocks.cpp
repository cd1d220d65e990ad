#include "calque/ggml/blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <vector>

#include "calque/core/copies.h"
#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/core/instruction_set.h"
#include "ggml/types/codec.h"

namespace calque::ggml {

namespace {

std::vector<Copy> find_runnable_copies() {
  std::vector<Copy> copies = {{name_of(runnable_instruction_sets().front()), find_codec}};
#ifdef CALQUE_AVX512_COPY
  if (runnable_instruction_sets().back() >= InstructionSet::kAvx512)
    copies.push_back({name_of(InstructionSet::kAvx512), avx512::find_codec});
#endif
  return copies;
}

const Codec& codec_of(Type type) {
  if (const Codec* codec = CALQUE_CHOSEN_COPY(find_codec)(type)) return *codec;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("ggml type {} has no block codec", static_cast<std::uint32_t>(type)));
}

// The code that stands for zero in a grid without minimum.
float middle_of(const TypeInfo& info) { return static_cast<float>(1 << (info.code_bits - 1)); }

// body(block of the row, its first column, its first group) for each block.
template <typename Body>
void for_each_block(const Structure& structure, Index columns, Body body) {
  for (Index s = 0; s < columns / structure.super; ++s)
    body(s, s * structure.super, s * (structure.super / structure.group));
}

}  // namespace

std::span<const Copy> runnable_copies() {
  static const std::vector<Copy> copies = find_runnable_copies();
  return copies;
}

void quantize(Type type, MatrixView<const float> weight_NK, std::span<const float> importance_K,
              std::byte* out) {
  const Codec& codec = codec_of(type);
  const std::size_t stride = row_bytes(type, weight_NK.cols());
  assert(importance_K.empty() || std::ssize(importance_K) == weight_NK.cols());
  const float* importance = importance_K.empty() ? nullptr : importance_K.data();
  for (Index n = 0; n < weight_NK.rows(); ++n, out += stride)
    codec.quantize({weight_NK.row(n), importance, weight_NK.cols()}, out);
}

bool heeds_importance(Type type) {
  switch (type) {
    case Type::kQ8_0:
    case Type::kTQ1_0:
    case Type::kTQ2_0:
    case Type::kMXFP4:
      return false;
    default:
      return info_of(type).quantized();
  }
}

bool needs_importance(Type type) {
  switch (type) {
    case Type::kIQ3_XXS:
    case Type::kIQ2_S:
    case Type::kIQ2_XS:
    case Type::kIQ2_XXS:
    case Type::kIQ1_M:
    case Type::kIQ1_S:
      return true;
    default:
      return false;
  }
}

void dequantize(Type type, const std::byte* bytes, MatrixView<float> weight_NK) {
  const std::size_t stride = row_bytes(type, weight_NK.cols());
  if (info_of(type).support == Support::kPlain) {
    for (Index n = 0; n < weight_NK.rows(); ++n, bytes += stride)
      convert_to_float(bytes, dtype_of(type), static_cast<std::size_t>(weight_NK.cols()),
                       weight_NK.row(n));
    return;
  }
  const Codec& codec = codec_of(type);
  for (Index n = 0; n < weight_NK.rows(); ++n, bytes += stride)
    codec.dequantize(bytes, weight_NK.cols(), weight_NK.row(n));
}

Fields Fields::clone() const {
  return {codes_NK.clone(), scale_codes_NG.clone(), minimum_codes_NG.clone(), steps_NS.clone(),
          minimum_steps_NS.clone()};
}

Fields empty_fields(const Structure& structure, Index rows, Index columns) {
  const Index groups = columns / structure.group;
  const Index supers = columns / structure.super;
  return {Matrix<std::uint8_t>(rows, columns), Matrix<std::int8_t>(rows, groups),
          Matrix<std::int8_t>(rows, groups), Matrix<float>(rows, supers),
          Matrix<float>(rows, supers)};
}

void load_fields(Type type, const std::byte* row, Index n, Fields& fields) {
  const TypeInfo& info = info_of(type);
  const Structure& structure = *info.structure;
  const Index groups = structure.super / structure.group;
  const Codec& codec = codec_of(type);
  for_each_block(structure, fields.codes_NK.cols(), [&](Index s, Index column, Index group) {
    Block block{};  // minima of zero where the type has none
    codec.load(row + static_cast<std::size_t>(s) * info.block_bytes, block);
    std::copy_n(block.codes, structure.super, fields.codes_NK.row(n) + column);
    std::copy_n(block.scales, groups, fields.scale_codes_NG.row(n) + group);
    std::copy_n(block.minima, groups, fields.minimum_codes_NG.row(n) + group);
    fields.steps_NS(n, s) = block.step;
    fields.minimum_steps_NS(n, s) = block.minimum_step;
  });
}

void store_fields(Type type, const Fields& fields, Index n, std::byte* row) {
  const TypeInfo& info = info_of(type);
  const Structure& structure = *info.structure;
  const Index groups = structure.super / structure.group;
  const Codec& codec = codec_of(type);
  for_each_block(structure, fields.codes_NK.cols(), [&](Index s, Index column, Index group) {
    Block block;
    std::copy_n(fields.codes_NK.row(n) + column, structure.super, block.codes);
    std::copy_n(fields.scale_codes_NG.row(n) + group, groups, block.scales);
    std::copy_n(fields.minimum_codes_NG.row(n) + group, groups, block.minima);
    block.step = fields.steps_NS(n, s);
    block.minimum_step = fields.minimum_steps_NS(n, s);
    codec.store(block, row + static_cast<std::size_t>(s) * info.block_bytes);
  });
}

const VectorStructure* vectors_of(Type type) {
  const Codec* codec = CALQUE_CHOSEN_COPY(find_codec)(type);
  return codec == nullptr ? nullptr : codec->vectors;
}

VectorFields VectorFields::clone() const {
  return {codes_NV.clone(), signs_NE.clone(), scale_codes_NG.clone(), steps_NS.clone()};
}

VectorFields empty_vector_fields(const VectorStructure& structure, Index rows, Index columns) {
  return {Matrix<std::uint16_t>(rows, columns / structure.length),
          Matrix<std::uint8_t>(rows, columns / 8),
          Matrix<std::uint8_t>(rows, columns / structure.group),
          Matrix<float>(rows, columns / structure.super)};
}

namespace {

// body(values of the row's super-block s, values of the block, how many) for every field that is no
// step.
template <typename Row, typename Body>
void for_each_field(const VectorStructure& structure, Row& fields, Index n, Index s, auto& block,
                    Body body) {
  const Index vectors = structure.super / structure.length, eights = structure.super / 8,
              groups = structure.super / structure.group;
  body(fields.codes_NV.row(n) + s * vectors, block.points, vectors);
  body(fields.signs_NE.row(n) + s * eights, block.signs, eights);
  body(fields.scale_codes_NG.row(n) + s * groups, block.scales, groups);
}

}  // namespace

void load_vectors(Type type, const std::byte* row, Index n, VectorFields& fields) {
  const Codec& codec = codec_of(type);
  for (Index s = 0; s < fields.steps_NS.cols(); ++s, row += info_of(type).block_bytes) {
    VectorBlock block{};
    codec.load_vectors(row, block);
    fields.steps_NS(n, s) = block.step;
    for_each_field(
        *codec.vectors, fields, n, s, block,
        [](auto* own, const auto* stored, Index count) { std::copy_n(stored, count, own); });
  }
}

void store_vectors(Type type, const VectorFields& fields, Index n, std::byte* row) {
  const Codec& codec = codec_of(type);
  for (Index s = 0; s < fields.steps_NS.cols(); ++s, row += info_of(type).block_bytes) {
    VectorBlock block{};
    block.step = fields.steps_NS(n, s);
    for_each_field(
        *codec.vectors, fields, n, s, block,
        [](const auto* own, auto* stored, Index count) { std::copy_n(own, count, stored); });
    codec.store_vectors(block, row);
  }
}

void load_grid(Type type, const std::byte* row, Index columns, std::uint8_t* codes_K,
               float* scales_G, float* offsets_G) {
  const TypeInfo& info = info_of(type);
  assert(info.support == Support::kGrid);
  const Codec& codec = codec_of(type);
  for (Index g = 0; g < columns / info.block_columns; ++g, row += info.block_bytes) {
    Block block;
    codec.load(row, block);
    std::copy_n(block.codes, info.block_columns, codes_K + g * info.block_columns);
    scales_G[g] = block.step;
    offsets_G[g] = info.has_minimum ? block.minimum_step : -block.step * middle_of(info);
  }
}

void store_grid(Type type, const std::uint8_t* codes_K, const float* scales_G,
                const float* offsets_G, Index columns, std::byte* row) {
  const TypeInfo& info = info_of(type);
  assert(info.support == Support::kGrid);
  const Codec& codec = codec_of(type);
  for (Index g = 0; g < columns / info.block_columns; ++g, row += info.block_bytes) {
    Block block;
    std::copy_n(codes_K + g * info.block_columns, info.block_columns, block.codes);
    block.step = scales_G[g];
    block.minimum_step = offsets_G[g];
    codec.store(block, row);
  }
}

}  // namespace calque::ggml
