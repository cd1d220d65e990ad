// GPTQ folders, v1 and v2, of any tool (formats_gptq_awq.md section 1).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "formats/gptq_layout.h"
#include "formats/packed_folder.h"
#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"

namespace calque::formats {
namespace {

struct GptqParts {
  const io::TensorRef* qweight = nullptr;
  const io::TensorRef* qzeros = nullptr;
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* g_idx = nullptr;  // null: consecutive groups
  Index N = 0;
  Index K = 0;
};

// g_idx knows K; without it (or empty, as some tools write it) the packed rows have to tell.
Index in_features_of(const GptqParts& parts, int bits) {
  if (parts.g_idx != nullptr) return parts.g_idx->element_count();
  return parts.qweight->shape[0] * 32 / bits;
}

const io::TensorRef* find_g_idx(const io::SafetensorsCheckpoint& checkpoint,
                                const std::string& module) {
  const io::TensorRef* g_idx = checkpoint.find(module + ".g_idx");
  if (g_idx == nullptr || g_idx->element_count() == 0) return nullptr;
  if (g_idx->dtype != DType::kI32 || g_idx->shape.size() != 1)
    throw Error(ErrorKind::kInput, "",
                fmt::format("tensor '{}' is {} {}, expected a vector of I32", g_idx->name,
                            name_of(g_idx->dtype), g_idx->shape_text()));
  return g_idx;
}

// Also narrows `settings` to those of the module.
GptqParts find_parts(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                     PackedSettings& settings) {
  GptqParts parts;
  parts.qweight = &part_of(checkpoint, module, "qweight", {DType::kI32});
  parts.qzeros = &part_of(checkpoint, module, "qzeros", {DType::kI32});
  parts.scales = &part_of(checkpoint, module, "scales", {DType::kF16, DType::kBF16, DType::kF32});
  parts.g_idx = find_g_idx(checkpoint, module);
  parts.N = parts.qweight->shape[1];
  // The zero points show the width even where nothing tells the number of inputs.
  const Index zero_words = parts.qzeros->shape[1];
  const int bits = settings.mixed ? width_of(settings, module, zero_words, parts.N) : settings.bits;
  parts.K = in_features_of(parts, bits);
  settings =
      settings_of_module(settings, module, zero_words, parts.N, parts.K, parts.scales->shape[0]);
  return parts;
}

void check_shapes(const GptqParts& parts, const PackedSettings& settings) {
  const std::string said =
      fmt::format("{} inputs and {} outputs at bits {}, group_size {} ({})", parts.K, parts.N,
                  settings.bits, settings.group_size, settings.where);
  require_shape(*parts.qweight, {packed_words(parts.K, settings.bits), parts.N}, said);
  const Index groups = group_count(parts.K, settings.group_size);
  require_shape(*parts.scales, {groups, parts.N}, said);
  require_shape(*parts.qzeros, {groups, packed_words(parts.N, settings.bits)}, said);
}

std::vector<std::int32_t> groups_of(const GptqParts& parts, const PackedSettings& settings,
                                    Index groups) {
  const Index group_size = settings.group_size < 0 ? parts.K : settings.group_size;
  const std::vector<std::int32_t> consecutive = quant::consecutive_groups(parts.K, group_size);
  if (parts.g_idx == nullptr) return consecutive;
  std::vector<std::int32_t> stored(static_cast<std::size_t>(parts.K));
  std::memcpy(stored.data(), parts.g_idx->bytes.data(), parts.g_idx->bytes.size());
  for (std::size_t k = 0; k < stored.size(); ++k)
    if (stored[k] < 0 || stored[k] >= groups)
      throw Error(ErrorKind::kInput, "",
                  fmt::format("tensor '{}' puts input {} into group {}, there are {} groups",
                              parts.g_idx->name, k, stored[k], groups));
  // Some tools leave zeros where no activation order was used.
  const bool unset =
      std::all_of(stored.begin(), stored.end(), [](std::int32_t group) { return group == 0; });
  return unset && !settings.desc_act ? consecutive : stored;
}

Matrix<std::uint8_t> codes_of(const GptqParts& parts, int bits) {
  auto codes_KN = Matrix<std::uint8_t>::uninitialized(parts.K, parts.N);
  unpack_columns(words_of(*parts.qweight), bits, codes_KN);
  return transposed(codes_KN);
}

// Symmetric files need no zero points, and what they store differs between tools (section 1.3).
Matrix<std::uint8_t> zeros_of(const GptqParts& parts, const PackedSettings& settings) {
  if (settings.sym.value_or(false)) return {};
  return transposed(
      unpack_gptq_zeros(words_of(*parts.qzeros), parts.N, settings.bits, settings.v2));
}

bool all_are(const Matrix<std::uint8_t>& zeros_NG, int zero) {
  return std::all_of(zeros_NG.data(), zeros_NG.data() + zeros_NG.size(),
                     [&](std::uint8_t z) { return z == zero; });
}

quant::QuantizedMatrix unpack(const GptqParts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  q.codes_NK = codes_of(parts, settings.bits);
  q.scales_NG = transposed(scales_of(*parts.scales));
  const Matrix<std::uint8_t> zeros_NG = zeros_of(parts, settings);
  q.offsets_NG = offsets_of(q.scales_NG, zeros_NG, settings.bits);

  const bool sym = settings.sym.value_or(all_are(zeros_NG, 1 << (settings.bits - 1)));
  q.grid.bits = settings.bits;
  q.grid.group_size = settings.group_size;
  q.grid.offset_kind = sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  q.grid.precision = precision_of(parts.scales->dtype);

  std::vector<std::int32_t> groups = groups_of(parts, settings, q.scales_NG.cols());
  const Index group_size = q.grid.group_size_for(parts.K);
  const bool consecutive = groups == quant::consecutive_groups(parts.K, group_size);
  if (!consecutive || parts.K % group_size != 0) q.group_of_column_K = std::move(groups);
  return q;
}

}  // namespace

PackedModule gptq_module(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                         const PackedSettings& stated) {
  PackedSettings settings = stated;
  const GptqParts parts = find_parts(checkpoint, module, settings);
  check_shapes(parts, settings);
  PackedModule result;
  result.weight_name = module + ".weight";
  result.out_features = parts.N;
  result.in_features = parts.K;
  result.stored_as = description("GPTQ", settings, settings.sym.value_or(false));
  add_parts(result, {parts.qweight, parts.qzeros, parts.scales});
  if (const io::TensorRef* g_idx = checkpoint.find(module + ".g_idx")) add_parts(result, {g_idx});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

}  // namespace calque::formats
