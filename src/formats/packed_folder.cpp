#include "formats/packed_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/wording.h"
#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"

namespace calque::formats {
namespace {

using Layout = PackedSettings::Layout;

// The tensor that every quantized module has, and plain ones have not.
std::string_view marker_of(Layout layout) {
  return layout == Layout::kCompressedTensors ? ".weight_packed" : ".qweight";
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

std::vector<PackedModule> packed_modules(const io::SafetensorsCheckpoint& checkpoint,
                                         const PackedSettings& settings) {
  const std::string_view marker = marker_of(settings.layout);
  std::vector<PackedModule> modules;
  for (const io::TensorRef& tensor : checkpoint.tensors()) {
    if (!tensor.name.ends_with(marker)) continue;
    const std::string module = tensor.name.substr(0, tensor.name.size() - marker.size());
    if (checkpoint.find(module + ".weight") != nullptr)
      throw Error(ErrorKind::kInput, "",
                  fmt::format("module '{}' is stored twice: as '{}' and as '{}.weight'", module,
                              tensor.name, module));
    if (settings.layout == Layout::kGptq)
      modules.push_back(gptq_module(checkpoint, module, settings));
    else if (settings.layout == Layout::kAwqGemm)
      modules.push_back(awq_module(checkpoint, module, settings));
    else
      modules.push_back(compressed_tensors_module(checkpoint, module, settings));
  }
  if (modules.empty())
    throw Error(ErrorKind::kInput, "",
                fmt::format("{} announces quantized modules, but no tensor is named '*{}'",
                            settings.where, marker));
  return modules;
}

int width_of(const PackedSettings& settings, const std::string& module, Index words, Index count) {
  const bool plausible = count > 0 && count <= 32 * words;  // a stated count may be any number
  for (const int bits : {settings.bits, 4, 8, 3, 2})
    if (plausible && packed_words(count, bits) == words) return bits;
  throw Error(ErrorKind::kInput, "",
              fmt::format("module '{}': {} words for {} codes fit none of 2, 3, 4 and 8 bits ({} "
                          "gives modules settings of their own)",
                          module, words, count, settings.where));
}

PackedSettings settings_of_module(const PackedSettings& settings, const std::string& module,
                                  Index words, Index count, Index K, Index groups) {
  if (!settings.mixed) return settings;
  PackedSettings own = settings;
  own.bits = width_of(settings, module, words, count);
  if (group_count(K, settings.group_size) == groups) return own;
  if (groups == 0 || K % groups != 0)
    throw Error(ErrorKind::kInput, "",
                fmt::format("module '{}': {} groups of equal size do not make {} inputs ({} gives "
                            "modules settings of their own)",
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
        ErrorKind::kInput, "",
        fmt::format("module '{}' is quantized, but its tensor '{}' is missing", module, name));
  if (std::find(dtypes.begin(), dtypes.end(), tensor->dtype) == dtypes.end() ||
      tensor->shape.size() != 2 || tensor->element_count() == 0)
    throw Error(ErrorKind::kInput, "",
                fmt::format("tensor '{}' is {} {}, expected a matrix of {}", name,
                            name_of(tensor->dtype), tensor->shape_text(), names_of(dtypes)));
  return *tensor;
}

void require_shape(const io::TensorRef& tensor, const std::vector<Index>& shape,
                   const std::string& reason) {
  if (tensor.shape == shape) return;
  throw Error(ErrorKind::kInput, "",
              fmt::format("tensor '{}' has shape {}, expected {}: {}", tensor.name,
                          tensor.shape_text(), shape_text(shape), reason));
}

Index group_count(Index in_features, Index group_size) {
  if (group_size < 0) return 1;
  return in_features / group_size + (in_features % group_size != 0 ? 1 : 0);
}

void add_parts(PackedModule& module, const std::vector<const io::TensorRef*>& parts) {
  for (const io::TensorRef* part : parts) {
    module.parts.push_back(part->name);
    module.bytes += part->bytes.size();
  }
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
        throw Error(ErrorKind::kInput, "",
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

std::string description(std::string_view layout, const PackedSettings& settings, bool sym) {
  const std::string groups =
      settings.group_size < 0 ? "per row" : fmt::format("g{}", settings.group_size);
  return fmt::format("{} {} bit {} {}", layout, settings.bits, groups, sym ? "sym" : "asym");
}

}  // namespace calque::formats
