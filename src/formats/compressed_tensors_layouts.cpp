// The layouts of compressed-tensors folders.
//
// pack-quantized: codes packed along the inputs of each row; zero points (asymmetric grids only)
// packed along the outputs.
//   weight_packed I32 [N, packed_words(K)]        weight_scale F16 or BF16 [N, G]
//   weight_zero_point I32 [packed_words(N), G]    weight_shape I64 [2] = N, K
// int-quantized, float-quantized, naive-quantized (the last without rounded inputs): one byte a
// code.
//   weight I8 or F8_E4M3 [N, K]                   input_scale [1], if calibrated
//   weight_scale [1], [N, G], or of blocks [ceil(N / 128), K / 128]
// mxfp8-quantized: the same with weight_scale U8 [N, K / 32], a byte e for 2^(e - 127).
// nvfp4-pack-quantized, mxfp4-pack-quantized: two codes a byte, the first in the low bits.
//   weight_packed U8 [N, K / 2]
//   weight_scale F8_E4M3 [N, K / 16] with weight_global_scale F32 [1], which divides it; if inputs
//   are rounded, input_global_scale F32 [1]; or weight_scale U8 [N, K / 32]
#include "formats/compressed_tensors_layouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"
#include "calque/kernels/scale_search.h"

namespace calque::formats {
namespace {

bool is_symmetric(const quant::Grid& grid) { return grid.offset_kind == OffsetKind::kMiddleCode; }

DType scale_dtype(const quant::Grid& grid) {
  if (grid.precision == ScalePrecision::kE4M3) return DType::kF8E4M3;
  if (grid.precision == ScalePrecision::kE8M0) return DType::kU8;
  return grid.precision == ScalePrecision::kF16 ? DType::kF16 : DType::kBF16;
}

// The blocks of rows that share scales, where tensors alone tell it.
constexpr Index kBlockRows = 128;

Index scale_tensor_rows(Index N, Index scale_rows) {
  return scale_rows < 0 ? 1 : (N + scale_rows - 1) / scale_rows;
}

// ---- Scales that are codes

// The number that a code stands for, before the divisor.
float coded_scale(std::byte code, DType dtype) {
  const auto number = static_cast<std::uint8_t>(code);
  return dtype == DType::kU8 ? e8m0_value_of(number) : values_of(SmallFloat::kE4M3)[number];
}

std::byte code_of_scale(float scale, DType dtype, float divisor) {
  const std::uint8_t code =
      dtype == DType::kU8 ? e8m0_code_of(scale) : code_of(SmallFloat::kE4M3, scale * divisor);
  if (coded_scale(std::byte{code}, dtype) / divisor == scale) return std::byte{code};
  throw Error(
      ErrorKind::kInternal, "",
      fmt::format("scale {} is not a {} number divided by {}", scale, name_of(dtype), divisor));
}

std::vector<std::byte> bytes_of_scales(MatrixView<const float> scales, const quant::Grid& grid,
                                       float divisor) {
  const DType dtype = scale_dtype(grid);
  if (!grid.coded_scales()) return stored_scales(scales, dtype);
  std::vector<std::byte> bytes;
  bytes.reserve(static_cast<std::size_t>(scales.size()));
  for (Index r = 0; r < scales.rows(); ++r)
    for (const float scale : scales.row_span(r))
      bytes.push_back(code_of_scale(scale, dtype, divisor));
  return bytes;
}

Matrix<float> numbers_of_scales(const io::TensorRef& tensor, float divisor) {
  if (is_floating(tensor.dtype)) return scales_of(tensor);
  auto scales = Matrix<float>::uninitialized(tensor.shape[0], tensor.shape[1]);
  for (Index i = 0; i < scales.size(); ++i) {
    scales.data()[i] =
        coded_scale(tensor.bytes[static_cast<std::size_t>(i)], tensor.dtype) / divisor;
    if (!std::isfinite(scales.data()[i]))
      throw Error(ErrorKind::kInput, "E174",
                  fmt::format("tensor '{}' holds a code at [{}, {}] that is not a number: the file "
                              "is damaged",
                              tensor.name, i / scales.cols(), i % scales.cols()));
  }
  return scales;
}

std::vector<DType> scale_types_of(const PackedSettings& settings) {
  if (!settings.coded_scales) return kScaleTypes;
  return {*settings.coded_scales == ScalePrecision::kE8M0 ? DType::kU8 : DType::kF8E4M3};
}

std::optional<ScalePrecision> coded_scales_of(const io::TensorRef& scales) {
  if (scales.dtype == DType::kU8) return ScalePrecision::kE8M0;
  if (scales.dtype == DType::kF8E4M3) return ScalePrecision::kE4M3;
  return std::nullopt;
}

// ---- Words of packed codes: writing

std::vector<io::TensorDeclaration> declare_words(const std::string& module, Index N, Index K,
                                                 const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  const Index groups = grid.groups(K);
  std::vector<io::TensorDeclaration> tensors = {
      {module + ".weight_packed", DType::kI32, {N, packed_words(K, grid.bits)}},
      {module + ".weight_scale", scale_dtype(grid), {N, groups}},
      {module + ".weight_shape", DType::kI64, {2}}};
  if (!is_symmetric(grid))
    tensors.push_back(
        {module + ".weight_zero_point", DType::kI32, {packed_words(N, grid.bits), groups}});
  return tensors;
}

NamedBytes pack_zeros(const std::string& module, const quant::QuantizedMatrix& q,
                      const Exec& exec) {
  const Matrix<std::uint8_t> zeros_NG = stored_zeros(q);
  Matrix<std::int32_t> words(packed_words(zeros_NG.rows(), q.grid.bits), zeros_NG.cols());
  pack_columns(zeros_NG, q.grid.bits, words, exec);
  return {module + ".weight_zero_point", bytes_of(words)};
}

std::vector<NamedBytes> pack_words(const std::string& module, const quant::QuantizedMatrix& q,
                                   const Packing& packing) {
  require_consecutive_groups(q, "compressed-tensors");
  Matrix<std::int32_t> words(q.out_features(), packed_words(q.in_features(), q.grid.bits));
  pack_rows(q.groups().codes_NK, q.grid.bits, words, packing.exec);
  const std::int64_t shape[] = {q.out_features(), q.in_features()};
  std::vector<NamedBytes> tensors = {
      {module + ".weight_packed", bytes_of(words)},
      {module + ".weight_scale", stored_scales(q.groups().scales_NG, scale_dtype(q.grid))},
      {module + ".weight_shape", bytes_of(shape, 2)}};
  if (!is_symmetric(q.grid)) tensors.push_back(pack_zeros(module, q, packing.exec));
  return tensors;
}

// ---- Words of packed codes: reading

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
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}' is quantized, but '{}' is missing or not a pair of I64",
                            module, name));
  return *tensor;
}

Parts find_parts(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                 const PackedSettings& settings) {
  Parts parts;
  parts.packed = &part_of(checkpoint, module, "weight_packed", {DType::kI32});
  parts.scale = &part_of(checkpoint, module, "weight_scale", kScaleTypes);
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

// Checks the stored shape against the packed words before it is used.
void check_shapes(const Parts& parts, const PackedSettings& settings) {
  const Index most = parts.packed->shape[1] * 32 / settings.bits;
  if (parts.N != parts.packed->shape[0] || parts.K < 0 || parts.K > most)
    throw Error(
        ErrorKind::kInput, "E174",
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

quant::QuantizedMatrix unpack_words(const Parts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  quant::GroupCodes& groups = q.groups();
  groups.codes_NK = Matrix<std::uint8_t>::uninitialized(parts.N, parts.K);
  unpack_rows(words_of(*parts.packed), settings.bits, groups.codes_NK);
  groups.scales_NG = scales_of(*parts.scale);
  Matrix<std::uint8_t> zeros_NG;
  if (parts.zero_point != nullptr) {
    zeros_NG = Matrix<std::uint8_t>(parts.N, groups.scales_NG.cols());
    unpack_columns(words_of(*parts.zero_point), settings.bits, zeros_NG);
  }
  groups.offsets_NG = offsets_of(groups.scales_NG, zeros_NG, settings.bits);
  q.grid = basic_grid({settings.bits, settings.group_size, parts.zero_point == nullptr},
                      precision_of(parts.scale->dtype));
  if (!q.grid.divides(parts.K))
    groups.group_of_column_K = quant::consecutive_groups(parts.K, settings.group_size);
  return q;
}

PackedModule open_words(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                        const PackedSettings& stated) {
  if (checkpoint.find(module + ".weight_g_idx") != nullptr)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}' has activation-ordered groups ('{}.weight_g_idx'), which "
                            "calque does not read in compressed-tensors folders",
                            module, module));
  const Parts parts = find_parts(checkpoint, module, stated);
  const PackedSettings settings = settings_of_module(stated, module, parts.packed->shape[1],
                                                     parts.K, parts.K, parts.scale->shape[1]);
  check_shapes(parts, settings);
  PackedModule result =
      packed_module(module, parts.N, parts.K,
                    description("compressed-tensors", settings, parts.zero_point == nullptr) +
                        inputs_text(settings.inputs),
                    {parts.packed, parts.scale, parts.shape, parts.zero_point});
  result.inputs = settings.inputs;
  result.unpack = [parts, settings] { return unpack_words(parts, settings); };
  return result;
}

bool read_shape(StoredParts& parts, StoredModule& module, const io::TensorRef* tensor) {
  if (tensor == nullptr || tensor->dtype != DType::kI64 || tensor->shape != std::vector<Index>{2}) {
    parts.add_fault(
        fmt::format("module '{}' is packed, but '{}.weight_shape' is missing or not a pair of I64",
                    module.name, module.name));
    return false;
  }
  std::int64_t sizes[2] = {};
  std::memcpy(sizes, tensor->bytes.data(), sizeof(sizes));
  // Upper bound of a plausible dimension.
  constexpr std::int64_t kMost = std::int64_t{1} << 32;
  if (sizes[0] < 1 || sizes[1] < 1 || sizes[0] > kMost || sizes[1] > kMost) {
    parts.add_fault(fmt::format("tensor '{}' says [{}, {}], which is not a valid shape",
                                tensor->name, sizes[0], sizes[1]));
    return false;
  }
  module.N = sizes[0];
  module.K = sizes[1];
  return true;
}

std::optional<StoredModule> stored_words(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  const io::TensorRef* packed = parts.matrix(name, "weight_packed", {DType::kI32});
  module.scales = parts.matrix(name, "weight_scale", kScaleTypes);
  const io::TensorRef* shape = parts.find(name + ".weight_shape");
  module.zeros = parts.find(name + ".weight_zero_point");
  if (!packed || !module.scales || !read_shape(parts, module, shape)) return std::nullopt;
  module.groups = module.scales->shape[1];
  for (int bits = 1; bits <= 8; ++bits)
    if (packed_words(module.K, bits) == packed->shape[1]) module.bits = bits;
  const bool zeros_fit =
      module.zeros == nullptr ||
      (module.zeros->dtype == DType::kI32 &&
       module.zeros->shape ==
           std::vector<Index>{packed_words(module.N, std::max(module.bits, 1)), module.groups});
  const bool good = module.bits != 0 && packed->shape[0] == module.N &&
                    module.scales->shape[0] == module.N && zeros_fit && fits_groups(module);
  if (!good) return parts.contradiction(name, {packed, module.scales, shape, module.zeros});
  return module;
}

// ---- Bytes: one a code

bool has_input_scale(const std::optional<InputGrid>& inputs) {
  return inputs && inputs->scale_of == InputGrid::Scale::kTensor;
}

// A byte of an integer code is the difference from the middle code.
int middle_of(const quant::Grid& grid) { return grid.number ? 0 : 1 << (grid.bits - 1); }

std::vector<io::TensorDeclaration> declare_bytes(const std::string& module, Index N, Index K,
                                                 const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  const DType dtype = scale_dtype(grid);
  const bool one = grid.scale_rows == quant::Grid::kAllRows;
  std::vector<io::TensorDeclaration> tensors = {
      {module + ".weight", grid.number ? DType::kF8E4M3 : DType::kI8, {N, K}},
      {module + ".weight_scale", dtype,
       one ? std::vector<Index>{1}
           : std::vector<Index>{scale_tensor_rows(N, grid.scale_rows), grid.groups(K)}}};
  if (has_input_scale(stored.inputs)) tensors.push_back({module + ".input_scale", dtype, {1}});
  return tensors;
}

// Inputs that calibration has not seen get the scale 1: the numbers are cast as they are.
float input_scale(const quant::QuantizedMatrix& q, const InputGrid& inputs) {
  return q.input_peak > 0 ? rounded_scale(q.input_peak / inputs.largest(), q.grid.precision) : 1;
}

std::vector<NamedBytes> pack_bytes(const std::string& module, const quant::QuantizedMatrix& q,
                                   const Packing& packing) {
  require_consecutive_groups(q, "compressed-tensors");
  const quant::GroupCodes& groups = q.groups();
  std::vector<std::byte> codes(static_cast<std::size_t>(groups.codes_NK.size()));
  const int middle = middle_of(q.grid);
  std::transform(groups.codes_NK.data(), groups.codes_NK.data() + codes.size(), codes.begin(),
                 [&](std::uint8_t code) { return static_cast<std::byte>(code - middle); });
  const Index step = q.grid.scale_rows_for(q.out_features());
  Matrix<float> scales(scale_tensor_rows(q.out_features(), step), groups.scales_NG.cols());
  for (Index r = 0; r < scales.rows(); ++r)
    std::copy_n(groups.scales_NG.row(r * step), scales.cols(), scales.row(r));
  std::vector<NamedBytes> tensors = {
      {module + ".weight", std::move(codes)},
      {module + ".weight_scale", bytes_of_scales(scales, q.grid, groups.scale_divisor)}};
  if (has_input_scale(packing.inputs)) {
    const float scale = input_scale(q, *packing.inputs);
    tensors.push_back({module + ".input_scale",
                       stored_scales(MatrixView<const float>(&scale, 1, 1), scale_dtype(q.grid))});
  }
  return tensors;
}

struct ByteParts {
  const io::TensorRef* codes = nullptr;
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* zeros = nullptr;  // null: symmetric
  Index N = 0;
  Index K = 0;
};

// A tensor of one number, however it is shaped.
const io::TensorRef& number_of(const io::SafetensorsCheckpoint& checkpoint,
                               const std::string& module, const std::string& part) {
  const std::string name = module + "." + part;
  const io::TensorRef* tensor = checkpoint.find(name);
  if (tensor == nullptr || !is_floating(tensor->dtype) || tensor->element_count() != 1)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}' is quantized, but '{}' is missing or not one number",
                            module, name));
  return *tensor;
}

float value_of(const io::TensorRef& tensor) {
  float value = 0;
  convert_to_float(tensor.bytes.data(), tensor.dtype, 1, &value);
  return value;
}

// The scales of every row and group.
Matrix<float> scales_of_rows(const ByteParts& parts, Index scale_rows, Index groups) {
  Matrix<float> scales_NG(parts.N, groups);
  if (scale_rows < 0) {
    std::fill_n(scales_NG.data(), scales_NG.size(), value_of(*parts.scales));
    return scales_NG;
  }
  const Matrix<float> stored = numbers_of_scales(*parts.scales, 1);
  for (Index n = 0; n < parts.N; ++n)
    std::copy_n(stored.row(n / scale_rows), groups, scales_NG.row(n));
  return scales_NG;
}

// int-quantized zero points are bytes [N, G], like the codes.
Matrix<std::uint8_t> zeros_of(const io::TensorRef& tensor, int middle) {
  Matrix<std::uint8_t> zeros(tensor.shape[0], tensor.shape[1]);
  std::transform(tensor.bytes.begin(), tensor.bytes.end(), zeros.data(), [&](std::byte byte) {
    return static_cast<std::uint8_t>(static_cast<std::int8_t>(byte) + middle);
  });
  return zeros;
}

quant::QuantizedMatrix unpack_bytes(const ByteParts& parts, const PackedSettings& settings) {
  quant::QuantizedMatrix q;
  q.grid = basic_grid({settings.bits, settings.group_size, parts.zeros == nullptr, settings.number,
                       settings.scale_rows, settings.coded_scales},
                      precision_of(parts.scales->dtype));
  quant::GroupCodes& groups = q.groups();
  groups.codes_NK = Matrix<std::uint8_t>::uninitialized(parts.N, parts.K);
  const int middle = middle_of(q.grid);
  std::transform(parts.codes->bytes.begin(), parts.codes->bytes.end(), groups.codes_NK.data(),
                 [&](std::byte byte) {
                   return static_cast<std::uint8_t>(static_cast<std::uint8_t>(byte) + middle);
                 });
  const Index count = group_count(parts.K, settings.group_size);
  groups.scales_NG = scales_of_rows(parts, settings.scale_rows, count);
  groups.offsets_NG = settings.number
                          ? Matrix<float>(parts.N, count)
                          : offsets_of(groups.scales_NG,
                                       parts.zeros == nullptr ? Matrix<std::uint8_t>()
                                                              : zeros_of(*parts.zeros, middle),
                                       settings.bits);
  if (!q.grid.divides(parts.K))
    groups.group_of_column_K = quant::consecutive_groups(parts.K, settings.group_size);
  return q;
}

// A code that is not a number would spread through the model.
void require_numbers(const io::TensorRef& codes) {
  const std::span<const float> values = values_of(SmallFloat::kE4M3);
  const auto bad = std::ranges::find_if(codes.bytes, [&](std::byte byte) {
    return std::isnan(values[static_cast<std::size_t>(byte)]);
  });
  if (bad == codes.bytes.end()) return;
  const Index at = bad - codes.bytes.begin();
  throw Error(ErrorKind::kInput, "E174",
              fmt::format("tensor '{}' holds a code at [{}, {}] that is not a number: the file is "
                          "damaged",
                          codes.name, at / codes.shape[1], at % codes.shape[1]));
}

PackedModule open_bytes(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                        const PackedSettings& settings) {
  ByteParts parts;
  parts.codes =
      &part_of(checkpoint, module, "weight", {settings.number ? DType::kF8E4M3 : DType::kI8});
  parts.N = parts.codes->shape[0];
  parts.K = parts.codes->shape[1];
  const bool one = settings.scale_rows < 0;
  parts.scales = one ? &number_of(checkpoint, module, "weight_scale")
                     : &part_of(checkpoint, module, "weight_scale", scale_types_of(settings));
  const Index groups = group_count(parts.K, settings.group_size);
  const std::string stored_as =
      description("compressed-tensors", settings, settings.sym.value_or(true));
  const std::string said = fmt::format("{} outputs and {} inputs, stored as {} ({})", parts.N,
                                       parts.K, stored_as, settings.where);
  if (!one)
    require_shape(*parts.scales, {scale_tensor_rows(parts.N, settings.scale_rows), groups}, said);
  if (!settings.number && !settings.sym.value_or(true)) {
    parts.zeros = &part_of(checkpoint, module, "weight_zero_point", {DType::kI8});
    require_shape(*parts.zeros, {parts.N, groups}, said);
  }
  std::optional<InputGrid> inputs = settings.inputs;
  const io::TensorRef* input_scale = nullptr;
  if (has_input_scale(inputs)) {
    input_scale = &number_of(checkpoint, module, "input_scale");
    inputs->scale = value_of(*input_scale);
  }
  PackedModule result = packed_module(module, parts.N, parts.K, stored_as + inputs_text(inputs),
                                      {parts.codes, parts.scales, parts.zeros, input_scale});
  result.inputs = inputs;
  result.unpack = [parts, settings] {
    if (settings.number) require_numbers(*parts.codes);
    return unpack_bytes(parts, settings);
  };
  return result;
}

std::optional<StoredModule> stored_bytes(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  module.codes = parts.matrix(name, "weight", {DType::kI8, DType::kF8E4M3});
  module.scales = parts.find(name + ".weight_scale");
  if (module.codes == nullptr || module.scales == nullptr) return std::nullopt;
  module.zeros = parts.find(name + ".weight_zero_point");
  module.bits = 8;
  if (module.codes->dtype == DType::kF8E4M3) module.number = SmallFloat::kE4M3;
  module.N = module.codes->shape[0];
  module.K = module.codes->shape[1];
  const std::vector<Index>& shape = module.scales->shape;
  const Index blocks = scale_tensor_rows(module.N, kBlockRows);
  module.groups = shape.size() == 2 ? shape[1] : 1;
  const bool one = module.scales->element_count() == 1 && shape.size() < 2;
  const Index rows = one ? 1 : shape.size() == 2 ? shape[0] : 0;
  module.scale_rows = one ? quant::Grid::kAllRows : rows == module.N ? 1 : kBlockRows;
  module.coded_scales = coded_scales_of(*module.scales);
  const bool good = (std::ranges::count(kScaleTypes, module.scales->dtype) > 0 ||
                     module.coded_scales == ScalePrecision::kE8M0) &&
                    (one || rows == module.N || rows == blocks) && fits_groups(module);
  if (!good) return parts.contradiction(name, {module.codes, module.scales, module.zeros});
  return module;
}

// ---- Two codes a byte

bool has_input_divisor(const std::optional<InputGrid>& inputs) {
  return inputs && inputs->scale_of == InputGrid::Scale::kCoded;
}

std::vector<io::TensorDeclaration> declare_nibbles(const std::string& module, Index N, Index K,
                                                   const StoredAs& stored) {
  const quant::Grid& grid = stored.grid;
  std::vector<io::TensorDeclaration> tensors = {
      {module + ".weight_packed", DType::kU8, {N, K / 2}},
      {module + ".weight_scale", scale_dtype(grid), {N, grid.groups(K)}}};
  if (grid.precision == ScalePrecision::kE4M3)
    tensors.push_back({module + ".weight_global_scale", DType::kF32, {1}});
  if (has_input_divisor(stored.inputs))
    tensors.push_back({module + ".input_global_scale", DType::kF32, {1}});
  return tensors;
}

// A server divides the largest input of 16 by 6, and rounds that times this number to FP8, which
// ends at 448. So inputs may become 1.75 times as large as calibration has seen them, and 16
// inputs keep FP8's full precision down to 2^-14 of these.
float input_divisor(const quant::QuantizedMatrix& q, const InputGrid& inputs) {
  constexpr float kWithRoom = 256;
  const float divisor = kWithRoom * inputs.largest() / q.input_peak;
  return std::isfinite(divisor) ? divisor : 1;
}

std::vector<NamedBytes> pack_nibbles(const std::string& module, const quant::QuantizedMatrix& q,
                                     const Packing& packing) {
  require_consecutive_groups(q, "compressed-tensors");
  const quant::GroupCodes& groups = q.groups();
  std::vector<std::byte> codes(static_cast<std::size_t>(groups.codes_NK.size() / 2));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint8_t* pair = groups.codes_NK.data() + 2 * i;
    codes[i] = static_cast<std::byte>(pair[0] | pair[1] << 4);
  }
  std::vector<NamedBytes> tensors = {
      {module + ".weight_packed", std::move(codes)},
      {module + ".weight_scale", bytes_of_scales(groups.scales_NG, q.grid, groups.scale_divisor)}};
  if (q.grid.precision == ScalePrecision::kE4M3)
    tensors.push_back({module + ".weight_global_scale", bytes_of(&groups.scale_divisor, 1)});
  if (has_input_divisor(packing.inputs)) {
    const float divisor = input_divisor(q, *packing.inputs);
    tensors.push_back({module + ".input_global_scale", bytes_of(&divisor, 1)});
  }
  return tensors;
}

// A number that divides scales. Error(kInput) unless it is positive.
float divisor_in(const io::TensorRef& tensor) {
  const float divisor = value_of(tensor);
  if (divisor > 0 && std::isfinite(divisor)) return divisor;
  throw Error(ErrorKind::kInput, "E174",
              fmt::format("tensor '{}' holds {}, but scales are divided by it: the file is damaged",
                          tensor.name, divisor));
}

quant::QuantizedMatrix unpack_nibbles(const ByteParts& parts, const PackedSettings& settings,
                                      float divisor) {
  quant::QuantizedMatrix q;
  q.grid = basic_grid({settings.bits, settings.group_size, true, settings.number,
                       settings.scale_rows, settings.coded_scales},
                      ScalePrecision::kF32);
  quant::GroupCodes& groups = q.groups();
  groups.scale_divisor = divisor;
  groups.codes_NK = Matrix<std::uint8_t>::uninitialized(parts.N, parts.K);
  for (std::size_t i = 0; i < parts.codes->bytes.size(); ++i) {
    const auto pair = static_cast<std::uint8_t>(parts.codes->bytes[i]);
    groups.codes_NK.data()[2 * i] = pair & 0xf;
    groups.codes_NK.data()[2 * i + 1] = pair >> 4;
  }
  groups.scales_NG = numbers_of_scales(*parts.scales, divisor);
  groups.offsets_NG = Matrix<float>(parts.N, groups.scales_NG.cols());
  return q;
}

PackedModule open_nibbles(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                          const PackedSettings& settings) {
  ByteParts parts;
  parts.codes = &part_of(checkpoint, module, "weight_packed", {DType::kU8});
  parts.scales = &part_of(checkpoint, module, "weight_scale", scale_types_of(settings));
  parts.N = parts.codes->shape[0];
  parts.K = 2 * parts.codes->shape[1];
  const std::string stored_as = description("compressed-tensors", settings, true);
  const std::string said = fmt::format("{} outputs and {} inputs, stored as {} ({})", parts.N,
                                       parts.K, stored_as, settings.where);
  if (parts.K % settings.group_size != 0)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("tensor '{}' has {} codes a row, which are no whole groups of {}",
                            parts.codes->name, parts.K, settings.group_size));
  require_shape(*parts.scales, {parts.N, parts.K / settings.group_size}, said);
  const io::TensorRef* divisor = nullptr;
  if (settings.coded_scales == ScalePrecision::kE4M3)
    divisor = &number_of(checkpoint, module, "weight_global_scale");
  std::optional<InputGrid> inputs = settings.inputs;
  const io::TensorRef* input_divisor = nullptr;
  if (has_input_divisor(inputs)) {
    input_divisor = &number_of(checkpoint, module, "input_global_scale");
    inputs->scale = divisor_in(*input_divisor);
  }
  PackedModule result = packed_module(module, parts.N, parts.K, stored_as + inputs_text(inputs),
                                      {parts.codes, parts.scales, divisor, input_divisor});
  result.inputs = inputs;
  result.unpack = [parts, settings, divisor] {
    return unpack_nibbles(parts, settings, divisor == nullptr ? 1 : divisor_in(*divisor));
  };
  return result;
}

std::optional<StoredModule> stored_nibbles(StoredParts& parts, const std::string& name) {
  StoredModule module{.name = name};
  const io::TensorRef* codes = parts.matrix(name, "weight_packed", {DType::kU8});
  module.scales = parts.matrix(name, "weight_scale", {DType::kU8, DType::kF8E4M3});
  if (codes == nullptr || module.scales == nullptr) return std::nullopt;
  module.bits = 4;
  module.number = SmallFloat::kE2M1;
  module.coded_scales = coded_scales_of(*module.scales);
  module.N = codes->shape[0];
  module.K = 2 * codes->shape[1];
  module.groups = module.scales->shape[1];
  const io::TensorRef* divisor = parts.find(name + ".weight_global_scale");
  if (module.coded_scales == ScalePrecision::kE4M3 &&
      (divisor == nullptr || divisor->dtype != DType::kF32 || divisor->element_count() != 1)) {
    parts.add_fault(fmt::format(
        "module '{}' has FP8 scales, but '{}.weight_global_scale' is missing or not one F32", name,
        name));
    return std::nullopt;
  }
  if (module.scales->shape[0] != module.N || !fits_groups(module))
    return parts.contradiction(name, {codes, module.scales});
  return module;
}

// ---- The table

bool is_one_a_row(const quant::Grid& grid) {
  return grid.group_size < 0 && grid.bits == 8 && is_symmetric(grid);
}

constexpr ModuleLayout in_bytes(std::string_view name, DType dtype, bool (*stores)(const StoredAs&),
                                std::optional<DType> scales = std::nullopt) {
  return {.name = name,
          .stores = stores,
          .declare = declare_bytes,
          .pack = pack_bytes,
          .codes = "weight",
          .dtype = dtype,
          .scales = scales,
          .open = open_bytes,
          .stored = stored_bytes};
}

constexpr ModuleLayout in_nibbles(std::string_view name, DType scales,
                                  bool (*stores)(const StoredAs&)) {
  return {.name = name,
          .stores = stores,
          .declare = declare_nibbles,
          .pack = pack_nibbles,
          .codes = "weight_packed",
          .dtype = DType::kU8,
          .scales = scales,
          .open = open_nibbles,
          .stored = stored_nibbles};
}

constexpr ModuleLayout kLayouts[] = {
    in_nibbles("nvfp4-pack-quantized", DType::kF8E4M3,
               [](const StoredAs& s) { return s.grid.precision == ScalePrecision::kE4M3; }),
    in_nibbles("mxfp4-pack-quantized", DType::kU8,
               [](const StoredAs& s) {
                 return s.grid.precision == ScalePrecision::kE8M0 && s.grid.bits == 4;
               }),
    in_bytes(
        "mxfp8-quantized", DType::kF8E4M3,
        [](const StoredAs& s) { return s.grid.precision == ScalePrecision::kE8M0; }, DType::kU8),
    in_bytes("float-quantized", DType::kF8E4M3,
             [](const StoredAs& s) { return s.grid.number && s.inputs; }),
    in_bytes("naive-quantized", DType::kF8E4M3,
             [](const StoredAs& s) { return s.grid.number.has_value(); }),
    in_bytes("int-quantized", DType::kI8,
             [](const StoredAs& s) { return s.inputs && is_one_a_row(s.grid); }),
    {.name = "pack-quantized",
     .stores = [](const StoredAs&) { return true; },
     .declare = declare_words,
     .pack = pack_words,
     .codes = "weight_packed",
     .dtype = DType::kI32,
     .open = open_words,
     .stored = stored_words},
};

}  // namespace

std::span<const ModuleLayout> layouts() { return kLayouts; }

const ModuleLayout& layout_for(const StoredAs& stored) {
  return *std::ranges::find_if(kLayouts,
                               [&](const ModuleLayout& layout) { return layout.stores(stored); });
}

const ModuleLayout* find_layout(std::string_view name) {
  const auto found = std::ranges::find(kLayouts, name, &ModuleLayout::name);
  return found == std::end(kLayouts) ? nullptr : found;
}

}  // namespace calque::formats
