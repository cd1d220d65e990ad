#include "formats/packed_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "calque/core/error.h"
#include "calque/formats/scheme.h"
#include "calque/kernels/pack_bits.h"
#include "formats/messages.h"

namespace calque::formats {
namespace {

std::uint8_t zero_of(const quant::QuantizedMatrix& q, Index n, Index g) {
  const quant::GroupCodes& groups = q.groups();
  const int middle = 1 << (q.grid.bits - 1);
  if (q.grid.offset_kind == OffsetKind::kMiddleCode) return static_cast<std::uint8_t>(middle);
  if (groups.scales_NG(n, g) == 0.0f) return static_cast<std::uint8_t>(middle);
  const float zero = std::nearbyint(-groups.offsets_NG(n, g) / groups.scales_NG(n, g));
  if (!(zero >= 0.0f && zero <= static_cast<float>(q.grid.max_code())))
    throw Error(ErrorKind::kInternal, "",
                fmt::format("zero point {} of row {}, group {} is outside 0..{}", zero, n, g,
                            q.grid.max_code()));
  return static_cast<std::uint8_t>(zero);
}

std::string_view number_name(DType dtype) {
  return dtype == DType::kF16 ? "binary16" : name_of(dtype);
}

template <typename T>
Matrix<T> transpose(MatrixView<const T> matrix) {
  auto result = Matrix<T>::uninitialized(matrix.cols(), matrix.rows());
  for (Index r = 0; r < matrix.rows(); ++r)
    for (Index c = 0; c < matrix.cols(); ++c) result(c, r) = matrix(r, c);
  return result;
}

std::string names_of(const std::vector<DType>& dtypes) {
  std::vector<std::string> names;
  for (const DType dtype : dtypes) names.emplace_back(name_of(dtype));
  return alternatives(names);
}

}  // namespace

std::string module_of(std::string_view weight_name) {
  constexpr std::string_view kSuffix = ".weight";
  if (weight_name.ends_with(kSuffix)) weight_name.remove_suffix(kSuffix.size());
  return std::string(weight_name);
}

quant::Grid basic_grid(const ModuleSettings& settings, ScalePrecision precision) {
  quant::Grid grid;
  grid.bits = settings.bits;
  grid.group_size = settings.group_size;
  grid.offset_kind = settings.sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  grid.precision = settings.coded_scales.value_or(precision);
  grid.number = settings.number;
  grid.scale_rows = settings.scale_rows;
  return grid;
}

ScalePrecision half_precision(const ExportRequest& request) {
  return request.scale_dtype == "bfloat16" ? ScalePrecision::kF16AndBF16 : ScalePrecision::kF16;
}

Matrix<std::uint8_t> stored_zeros(const quant::QuantizedMatrix& q) {
  auto zeros_NG =
      Matrix<std::uint8_t>::uninitialized(q.out_features(), q.groups().scales_NG.cols());
  for (Index n = 0; n < zeros_NG.rows(); ++n)
    for (Index g = 0; g < zeros_NG.cols(); ++g) zeros_NG(n, g) = zero_of(q, n, g);
  return zeros_NG;
}

std::vector<std::byte> stored_scales(MatrixView<const float> scales, DType dtype) {
  const Matrix<float> given = Matrix<float>::copy_of(scales);
  const auto count = static_cast<std::size_t>(given.size());
  std::vector<std::byte> bytes(count * size_of(dtype));
  convert_from_float(given.data(), dtype, count, bytes.data());
  Matrix<float> kept = Matrix<float>::uninitialized(given.rows(), given.cols());
  convert_to_float(bytes.data(), dtype, count, kept.data());
  for (Index r = 0; r < given.rows(); ++r)
    for (Index c = 0; c < given.cols(); ++c)
      if (kept(r, c) != given(r, c))
        throw Error(ErrorKind::kInternal, "",
                    fmt::format("scale {} at [{}, {}] is not a {} number", given(r, c), r, c,
                                number_name(dtype)));
  return bytes;
}

void require_consecutive_groups(const quant::QuantizedMatrix& q, std::string_view layout) {
  const Index K = q.in_features();
  const std::vector<std::int32_t>& groups = q.groups().group_of_column_K;
  if (groups.empty() || groups == quant::consecutive_groups(K, q.grid.group_size_for(K))) return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("{} cannot store activation-ordered groups", layout));
}

int width_of(const PackedSettings& settings, const std::string& module, Index words, Index count) {
  const bool plausible = count > 0 && count <= 32 * words;  // a stated count is not trusted
  std::vector<int> widths = {settings.bits, 4, 8};
  const std::vector<int>& known = settings.format->packed->read_widths;
  widths.insert(widths.end(), known.begin(), known.end());
  for (const int bits : widths)
    if (plausible && packed_words(count, bits) == words) return bits;
  throw Error(
      ErrorKind::kInput, "E174",
      fmt::format("module '{}': {} words for {} codes match none of {} bits ({} has settings "
                  "for single modules)",
                  module, words, count, fmt::join(known, ", "), settings.where));
}

PackedSettings settings_of_module(const PackedSettings& settings, const std::string& module,
                                  Index words, Index count, Index K, Index groups) {
  if (!settings.mixed) return settings;
  PackedSettings own = settings;
  own.bits = width_of(settings, module, words, count);
  if (group_count(K, settings.group_size) == groups) return own;
  if (groups == 0 || K % groups != 0)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("module '{}': {} groups of equal size do not make up {} inputs ({} has "
                            "settings for single modules)",
                            module, groups, K, settings.where));
  own.group_size = groups == 1 ? -1 : K / groups;
  return own;
}

const io::TensorRef& part_of(const io::SafetensorsCheckpoint& checkpoint, const std::string& module,
                             const std::string& part, const std::vector<DType>& dtypes) {
  const std::string name = module + "." + part;
  const io::TensorRef* tensor = checkpoint.find(name);
  if (tensor == nullptr)
    throw Error(
        ErrorKind::kInput, "E174",
        fmt::format("module '{}' is quantized, but its tensor '{}' is missing", module, name));
  if (std::find(dtypes.begin(), dtypes.end(), tensor->dtype) == dtypes.end() ||
      tensor->shape.size() != 2 || tensor->element_count() == 0)
    throw Error(ErrorKind::kInput, "E174",
                fmt::format("tensor '{}' is {} {}, expected a matrix of {}", name,
                            name_of(tensor->dtype), tensor->shape_text(), names_of(dtypes)));
  return *tensor;
}

void require_shape(const io::TensorRef& tensor, const std::vector<Index>& shape,
                   const std::string& reason) {
  if (tensor.shape == shape) return;
  throw Error(ErrorKind::kInput, "E174",
              fmt::format("tensor '{}' has shape {}, expected {}: {}", tensor.name,
                          tensor.shape_text(), shape_text(shape), reason));
}

Index group_count(Index in_features, Index group_size) {
  if (group_size < 0) return 1;
  return in_features / group_size + (in_features % group_size != 0 ? 1 : 0);
}

PackedModule packed_module(const std::string& module, Index N, Index K, std::string stored_as,
                           const std::vector<const io::TensorRef*>& parts) {
  PackedModule result;
  result.weight_name = module + ".weight";
  result.out_features = N;
  result.in_features = K;
  result.stored_as = std::move(stored_as);
  for (const io::TensorRef* part : parts) {
    if (part == nullptr) continue;
    result.parts.push_back(part->name);
    result.bytes += part->bytes.size();
  }
  return result;
}

Matrix<std::int32_t> words_of(const io::TensorRef& tensor) {
  auto words = Matrix<std::int32_t>::uninitialized(tensor.shape[0], tensor.shape[1]);
  if (!words.empty()) std::memcpy(words.data(), tensor.bytes.data(), tensor.bytes.size());
  return words;
}

Matrix<float> scales_of(const io::TensorRef& tensor) {
  Matrix<float> scales = io::to_matrix(tensor);
  for (Index r = 0; r < scales.rows(); ++r)
    for (Index c = 0; c < scales.cols(); ++c)
      if (!std::isfinite(scales(r, c)))
        throw Error(ErrorKind::kInput, "E174",
                    fmt::format("tensor '{}' holds {} at [{}, {}]: the file is damaged",
                                tensor.name, scales(r, c), r, c));
  return scales;
}

ScalePrecision precision_of(DType dtype) {
  if (dtype == DType::kF16) return ScalePrecision::kF16;
  return dtype == DType::kBF16 ? ScalePrecision::kBF16 : ScalePrecision::kF32;
}

Matrix<float> offsets_of(const Matrix<float>& scales_NG, const Matrix<std::uint8_t>& zeros_NG,
                         int bits) {
  const auto middle = static_cast<float>(1 << (bits - 1));
  auto offsets_NG = Matrix<float>::uninitialized(scales_NG.rows(), scales_NG.cols());
  for (Index n = 0; n < scales_NG.rows(); ++n)
    for (Index g = 0; g < scales_NG.cols(); ++g) {
      const float zero = zeros_NG.empty() ? middle : static_cast<float>(zeros_NG(n, g));
      offsets_NG(n, g) = -scales_NG(n, g) * zero;
    }
  return offsets_NG;
}

Matrix<float> transposed(MatrixView<const float> matrix) { return transpose(matrix); }
Matrix<std::uint8_t> transposed(MatrixView<const std::uint8_t> matrix) { return transpose(matrix); }

std::string number_text(SmallFloat number, Index group_size, Index scale_rows) {
  const std::string_view title = info_of(number).title;
  if (scale_rows < 0) return fmt::format("{} per matrix", title);
  if (scale_rows > 1) return fmt::format("{} {}x{}", title, scale_rows, group_size);
  return group_size < 0 ? fmt::format("{} per row", title)
                        : fmt::format("{} g{}", title, group_size);
}

std::string inputs_text(const std::optional<InputGrid>& inputs) {
  return inputs ? fmt::format(", inputs {}", activations_of(inputs).title) : "";
}

std::string description(std::string_view layout, const PackedSettings& settings, bool sym) {
  if (settings.number)
    return fmt::format("{} {}", layout,
                       number_text(*settings.number, settings.group_size, settings.scale_rows));
  const std::string groups =
      settings.group_size < 0 ? "per row" : fmt::format("g{}", settings.group_size);
  return fmt::format("{} {} bit {} {}", layout, settings.bits, groups, sym ? "sym" : "asym");
}

}  // namespace calque::formats
