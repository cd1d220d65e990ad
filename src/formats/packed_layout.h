#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/exec.h"
#include "calque/io/safetensors.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::formats {

struct NamedBytes {
  std::string name;
  std::vector<std::byte> bytes;
};

// How one kind of folder stores a quantized linear: in several tensors named after the module
// (formats_gptq_awq.md).
class PackedLayout {
 public:
  virtual ~PackedLayout() = default;
  // The tensors of a weight [N, K] on `grid`.
  virtual std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                                     const quant::Grid& grid) const = 0;
  // The same tensors' bytes, without rounding. Error(kInternal) for what planning has to prevent.
  virtual std::vector<NamedBytes> pack(const std::string& module,
                                       const quant::QuantizedMatrix& q) const = 0;
};

// Codes are packed on `exec`; AWQ's order of fields is none of kernels/pack_bits.h,
// and stays on the host.
std::unique_ptr<PackedLayout> gptq_layout(bool v2, const Exec& exec = open_exec("cpu"));
std::unique_ptr<PackedLayout> awq_layout();
std::unique_ptr<PackedLayout> compressed_tensors_layout(const Exec& exec = open_exec("cpu"));

// Helpers that the layouts share.

// "....q_proj.weight" -> "....q_proj"
std::string module_of(std::string_view weight_name);
// Zero points [N, G]: the middle code of a symmetric grid, and where a scale of 0 makes every code
// decode to 0. Error(kInternal) if one is no code.
Matrix<std::uint8_t> stored_zeros(const quant::QuantizedMatrix& q);
// Scales [N, G] as `dtype` (F16 or BF16) stores them. Error(kInternal) if that changes one.
std::vector<std::byte> stored_scales(MatrixView<const float> scales, DType dtype);
// Error(kInternal) if groups are not consecutive.
void require_consecutive_groups(const quant::QuantizedMatrix& q, std::string_view layout);

template <typename T>
std::vector<std::byte> bytes_of(const T* data, Index count) {
  const auto* first = reinterpret_cast<const std::byte*>(data);
  return {first, first + static_cast<std::size_t>(count) * sizeof(T)};
}

}  // namespace calque::formats
