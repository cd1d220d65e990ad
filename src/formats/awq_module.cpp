// AWQ folders in the GEMM layout (formats_gptq_awq.md section 3.1): packed along the outputs, with
// permuted nibbles and true zero points.
#include <fmt/format.h>

#include "formats/packed_folder.h"

namespace calque::formats {
namespace {

constexpr Index kPerWord = 8;
// Column 8c + j is nibble kNibbleOf[j] of word c.
constexpr int kNibbleOf[kPerWord] = {0, 4, 1, 5, 2, 6, 3, 7};

struct AwqParts {
  const io::TensorRef* qweight;
  const io::TensorRef* qzeros;
  const io::TensorRef* scales;
};

// words [R, N / 8] -> codes [N, R]
Matrix<std::uint8_t> unpack_nibbles(const Matrix<std::int32_t>& words) {
  auto codes = Matrix<std::uint8_t>::uninitialized(words.cols() * kPerWord, words.rows());
  for (Index r = 0; r < words.rows(); ++r)
    for (Index c = 0; c < words.cols(); ++c) {
      const auto word = static_cast<std::uint32_t>(words(r, c));
      for (Index j = 0; j < kPerWord; ++j)
        codes(c * kPerWord + j, r) = static_cast<std::uint8_t>(word >> (4 * kNibbleOf[j]) & 15);
    }
  return codes;
}

quant::QuantizedMatrix unpack(const AwqParts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  q.codes_NK = unpack_nibbles(words_of(*parts.qweight));
  q.scales_NG = transposed(scales_of(*parts.scales));
  q.offsets_NG = offsets_of(q.scales_NG, unpack_nibbles(words_of(*parts.qzeros)), settings.bits);
  q.grid.bits = settings.bits;
  q.grid.group_size = settings.group_size;
  q.grid.offset_kind = OffsetKind::kZeroPoint;
  q.grid.precision = precision_of(parts.scales->dtype);
  if (!q.grid.divides(q.in_features()))
    q.group_of_column_K = quant::consecutive_groups(q.in_features(), settings.group_size);
  return q;
}

}  // namespace

PackedModule awq_module(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                        const PackedSettings& stated) {
  const AwqParts parts{
      &part_of(checkpoint, module, "qweight", {DType::kI32}),
      &part_of(checkpoint, module, "qzeros", {DType::kI32}),
      &part_of(checkpoint, module, "scales", {DType::kF16, DType::kBF16, DType::kF32})};
  const Index K = parts.qweight->shape[0];
  const Index N = parts.qweight->shape[1] * kPerWord;
  const PackedSettings settings =
      settings_of_module(stated, module, parts.qweight->shape[1], N, K, parts.scales->shape[0]);
  const Index groups = group_count(K, settings.group_size);
  const std::string said = fmt::format("{} inputs and {} outputs at bits 4, group_size {} ({})", K,
                                       N, settings.group_size, settings.where);
  require_shape(*parts.scales, {groups, N}, said);
  require_shape(*parts.qzeros, {groups, N / kPerWord}, said);

  PackedModule result;
  result.weight_name = module + ".weight";
  result.out_features = N;
  result.in_features = K;
  result.stored_as = description("AWQ", settings, false);
  add_parts(result, {parts.qweight, parts.qzeros, parts.scales});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

}  // namespace calque::formats
