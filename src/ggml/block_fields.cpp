// Fields of whole rows, for those who choose codes and scales themselves.
#include <algorithm>
#include <array>

#include "calque/core/error.h"
#include "calque/ggml/fields.h"
#include "kernels/checks.h"
#include "kernels/kernel_table.h"
#include "ggml/types/affine_k_layout.h"
#include "ggml/types/codebook_layout.h"
#include "ggml/types/symmetric_k_layout.h"

namespace calque {
namespace {

// One super-block of a row of `Fields`: GgmlFields to write to, const GgmlFields to read from.
template <typename Fields>
struct Place {
  Fields& fields;
  Index row, super;
  const GgmlStructure& structure;

  Index columns() const { return structure.super; }
  Index groups() const { return structure.super / structure.group; }
  auto* codes() const { return fields.codes_NK.row(row) + super * columns(); }
  auto* scales() const { return fields.scale_codes_NG.row(row) + super * groups(); }
  auto* minima() const { return fields.minimum_codes_NG.row(row) + super * groups(); }
  auto& step() const { return fields.steps_NS(row, super); }
  auto& minimum_step() const { return fields.minimum_steps_NS(row, super); }
};
using Source = Place<const GgmlFields>;
using Target = Place<GgmlFields>;

template <auto Load>
void load_affine(const std::byte* bytes, const Target& target) {
  ggml::AffineBlock block;
  Load(bytes, block);
  std::copy_n(block.codes, target.columns(), target.codes());
  std::copy_n(block.scales, target.groups(), target.scales());
  std::copy_n(block.minima, target.groups(), target.minima());
  target.step() = block.scale_step;
  target.minimum_step() = block.minimum_step;
}

template <auto Store>
void store_affine(const Source& source, std::byte* out) {
  ggml::AffineBlock block;
  std::copy_n(source.codes(), source.columns(), block.codes);
  std::copy_n(source.scales(), source.groups(), block.scales);
  std::copy_n(source.minima(), source.groups(), block.minima);
  block.scale_step = source.step();
  block.minimum_step = source.minimum_step();
  Store(block, out);
}

// Of SymmetricBlock or CodebookBlock.
template <typename Block, auto Load>
void load_signed(const std::byte* bytes, const Target& target) {
  Block block;
  Load(bytes, block);
  std::copy_n(block.codes, target.columns(), target.codes());
  std::copy_n(block.scales, target.groups(), target.scales());
  target.step() = block.step;
}

template <typename Block, auto Store>
void store_signed(const Source& source, std::byte* out) {
  Block block;
  std::copy_n(source.codes(), source.columns(), block.codes);
  std::copy_n(source.scales(), source.groups(), block.scales);
  block.step = source.step();
  Store(block, out);
}

void load_single_scale(const std::byte* bytes, const Target& target) {
  load_signed<ggml::CodebookBlock, ggml::load_iq4_nl>(bytes, target);
  target.scales()[0] = 1;
}

struct FieldCodec {
  GgmlBlock type;
  GgmlStructure structure;
  void (*load)(const std::byte* bytes, const Target& target);
  void (*store)(const Source& source, std::byte* out);
};

template <int Count, int First>
constexpr std::array<float, Count> consecutive() {
  std::array<float, Count> levels{};
  for (int i = 0; i < Count; ++i)
    levels[static_cast<std::size_t>(i)] = static_cast<float>(First + i);
  return levels;
}

constexpr auto kTwoBits = consecutive<4, 0>();
constexpr auto kThreeBits = consecutive<8, -4>();
constexpr auto kFourBits = consecutive<16, 0>();
constexpr auto kFiveBits = consecutive<32, 0>();
constexpr auto kSixBits = consecutive<64, -32>();

const FieldCodec* find_field_codec(GgmlBlock type) {
  using namespace ggml;
  static const FieldCodec kTable[] = {
      {GgmlBlock::kQ2_K,
       {16, 256, kTwoBits, 0, 15, 15},
       load_affine<load_q2_k>,
       store_affine<store_q2_k>},
      {GgmlBlock::kQ3_K,
       {16, 256, kThreeBits, -32, 31, 0},
       load_signed<SymmetricBlock, load_q3_k>,
       store_signed<SymmetricBlock, store_q3_k>},
      {GgmlBlock::kQ4_K,
       {32, 256, kFourBits, 0, 63, 63},
       load_affine<load_q4_k>,
       store_affine<store_q4_k>},
      {GgmlBlock::kQ5_K,
       {32, 256, kFiveBits, 0, 63, 63},
       load_affine<load_q5_k>,
       store_affine<store_q5_k>},
      {GgmlBlock::kQ6_K,
       {16, 256, kSixBits, -128, 127, 0},
       load_signed<SymmetricBlock, load_q6_k>,
       store_signed<SymmetricBlock, store_q6_k>},
      {GgmlBlock::kIQ4_NL,
       {32, 32, kIq4Levels, 1, 1, 0},
       load_single_scale,
       store_signed<CodebookBlock, store_iq4_nl>},
      {GgmlBlock::kIQ4_XS,
       {32, 256, kIq4Levels, -32, 31, 0},
       load_signed<CodebookBlock, load_iq4_xs>,
       store_signed<CodebookBlock, store_iq4_xs>},
  };
  for (const FieldCodec& codec : kTable)
    if (codec.type == type) return &codec;
  return nullptr;
}

const FieldCodec& field_codec(GgmlBlock type) {
  if (const FieldCodec* codec = find_field_codec(type)) return *codec;
  throw Error(ErrorKind::kInternal, "", "ggml_fields: a block type without scale codes");
}

GgmlFields empty_fields(const GgmlStructure& structure, Index rows, Index columns) {
  const Index groups = columns / structure.group;
  const Index supers = columns / structure.super;
  return {Matrix<std::uint8_t>(rows, columns), Matrix<std::int8_t>(rows, groups),
          Matrix<std::int8_t>(rows, groups), Matrix<float>(rows, supers),
          Matrix<float>(rows, supers)};
}

}  // namespace

std::span<const float> GgmlStructure::table() const {
  const bool consecutive = levels.back() - levels.front() == static_cast<float>(levels.size() - 1);
  return consecutive ? std::span<const float>() : levels;
}

GgmlFields GgmlFields::clone() const {
  return {codes_NK.clone(), scale_codes_NG.clone(), minimum_codes_NG.clone(), steps_NS.clone(),
          minimum_steps_NS.clone()};
}

const GgmlStructure* find_ggml_structure(GgmlBlock type) {
  const FieldCodec* codec = find_field_codec(type);
  return codec ? &codec->structure : nullptr;
}

GgmlFields ggml_fields(GgmlBlock type, std::span<const std::byte> bytes, Index rows, Index columns,
                       const Exec& exec) {
  const FieldCodec& codec = field_codec(type);
  const auto stride = static_cast<Index>(ggml_row_bytes(type, columns));
  expect_length("ggml_fields", "bytes", bytes.size(), rows * stride);
  const auto block = static_cast<Index>(ggml_block_bytes(type));
  GgmlFields fields = empty_fields(codec.structure, rows, columns);
  exec.backend().workers.for_each(rows, [&](Index n) {
    for (Index s = 0; s < fields.steps_NS.cols(); ++s)
      codec.load(bytes.data() + n * stride + s * block, {fields, n, s, codec.structure});
  });
  return fields;
}

void store_ggml_fields(GgmlBlock type, const GgmlFields& fields, std::span<std::byte> out,
                       const Exec& exec) {
  const FieldCodec& codec = field_codec(type);
  const auto stride = static_cast<Index>(ggml_row_bytes(type, fields.codes_NK.cols()));
  expect_length("store_ggml_fields", "out", out.size(), fields.codes_NK.rows() * stride);
  const auto block = static_cast<Index>(ggml_block_bytes(type));
  exec.backend().workers.for_each(fields.codes_NK.rows(), [&](Index n) {
    for (Index s = 0; s < fields.steps_NS.cols(); ++s)
      codec.store({fields, n, s, codec.structure}, out.data() + n * stride + s * block);
  });
}

}  // namespace calque
