// compressed-tensors folders, format "pack-quantized" (formats_gptq_awq.md section 4): codes packed
// along the inputs of each row, zero points along the outputs.
#include <fmt/format.h>

#include <cstring>

#include "formats/packed_folder.h"
#include "formats/wording.h"
#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"

namespace calque::formats {
namespace {

struct Parts {
  const io::TensorRef* packed = nullptr;
  const io::TensorRef* scale = nullptr;
  const io::TensorRef* zero_point = nullptr;  // null: symmetric
  const io::TensorRef* shape = nullptr;
  Index N = 0;
  Index K = 0;
};

const io::TensorRef& shape_tensor(const io::SafetensorsCheckpoint& checkpoint,
                                  const std::string& module) {
  const std::string name = module + ".weight_shape";
  const io::TensorRef* tensor = checkpoint.find(name);
  const bool good =
      tensor != nullptr && tensor->dtype == DType::kI64 && tensor->shape == std::vector<Index>{2};
  if (!good)
    throw Error(ErrorKind::kInput, "",
                fmt::format("module '{}' is quantized, but '{}' is missing or no pair of I64",
                            module, name));
  return *tensor;
}

Parts find_parts(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                 const PackedSettings& settings) {
  Parts parts;
  parts.packed = &part_of(checkpoint, module, "weight_packed", {DType::kI32});
  parts.scale =
      &part_of(checkpoint, module, "weight_scale", {DType::kF16, DType::kBF16, DType::kF32});
  const bool asymmetric = settings.mixed ? checkpoint.find(module + ".weight_zero_point") != nullptr
                                         : !settings.sym.value_or(true);
  if (asymmetric)
    parts.zero_point = &part_of(checkpoint, module, "weight_zero_point", {DType::kI32});
  parts.shape = &shape_tensor(checkpoint, module);
  std::int64_t sizes[2] = {};
  std::memcpy(sizes, parts.shape->bytes.data(), sizeof(sizes));
  parts.N = sizes[0];
  parts.K = sizes[1];
  return parts;
}

// The stored shape is data, so it is believed only as far as the packed words bear it out.
void check_shapes(const Parts& parts, const PackedSettings& settings) {
  const Index most = parts.packed->shape[1] * 32 / settings.bits;
  if (parts.N != parts.packed->shape[0] || parts.K < 0 || parts.K > most)
    throw Error(
        ErrorKind::kInput, "",
        fmt::format("tensor '{}' says [{}, {}], but '{}' of shape {} holds {} rows of at "
                    "most {} codes of {} bits",
                    parts.shape->name, parts.N, parts.K, parts.packed->name,
                    parts.packed->shape_text(), parts.packed->shape[0], most, settings.bits));
  const std::string said =
      fmt::format("{} inputs and {} outputs at num_bits {}, group_size {} ({})", parts.K, parts.N,
                  settings.bits, settings.group_size, settings.where);
  require_shape(*parts.packed, {parts.N, packed_words(parts.K, settings.bits)}, said);
  const Index groups = group_count(parts.K, settings.group_size);
  require_shape(*parts.scale, {parts.N, groups}, said);
  if (parts.zero_point != nullptr)
    require_shape(*parts.zero_point, {packed_words(parts.N, settings.bits), groups}, said);
}

quant::QuantizedMatrix unpack(const Parts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  q.codes_NK = Matrix<std::uint8_t>::uninitialized(parts.N, parts.K);
  unpack_rows(words_of(*parts.packed), settings.bits, q.codes_NK);
  q.scales_NG = scales_of(*parts.scale);
  Matrix<std::uint8_t> zeros_NG;
  if (parts.zero_point != nullptr) {
    zeros_NG = Matrix<std::uint8_t>(parts.N, q.scales_NG.cols());
    unpack_columns(words_of(*parts.zero_point), settings.bits, zeros_NG);
  }
  q.offsets_NG = offsets_of(q.scales_NG, zeros_NG, settings.bits);
  q.grid.bits = settings.bits;
  q.grid.group_size = settings.group_size;
  q.grid.offset_kind =
      parts.zero_point == nullptr ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  q.grid.precision = precision_of(parts.scale->dtype);
  if (!q.grid.divides(parts.K))
    q.group_of_column_K = quant::consecutive_groups(parts.K, settings.group_size);
  return q;
}

}  // namespace

PackedModule compressed_tensors_module(const io::SafetensorsCheckpoint& checkpoint,
                                       const std::string& module, const PackedSettings& stated) {
  if (checkpoint.find(module + ".weight_g_idx") != nullptr)
    throw Error(ErrorKind::kInput, "",
                fmt::format("module '{}' has activation-ordered groups ('{}.weight_g_idx'), which "
                            "calque does not read in compressed-tensors folders",
                            module, module));
  const Parts parts = find_parts(checkpoint, module, stated);
  const PackedSettings settings = settings_of_module(stated, module, parts.packed->shape[1],
                                                     parts.K, parts.K, parts.scale->shape[1]);
  check_shapes(parts, settings);
  PackedModule result;
  result.weight_name = module + ".weight";
  result.out_features = parts.N;
  result.in_features = parts.K;
  result.stored_as = description("compressed-tensors", settings, parts.zero_point == nullptr);
  add_parts(result, {parts.packed, parts.scale, parts.shape});
  if (parts.zero_point != nullptr) add_parts(result, {parts.zero_point});
  result.unpack = [parts, settings] { return unpack(parts, settings); };
  return result;
}

}  // namespace calque::formats
