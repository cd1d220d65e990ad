#include "formats/packed_layout.h"

#include <fmt/format.h>

#include <cmath>

#include "calque/core/error.h"

namespace calque::formats {
namespace {

std::uint8_t zero_of(const quant::QuantizedMatrix& q, Index n, Index g) {
  const int middle = 1 << (q.grid.bits - 1);
  if (q.grid.offset_kind == OffsetKind::kMiddleCode) return static_cast<std::uint8_t>(middle);
  if (q.scales_NG(n, g) == 0.0f) return static_cast<std::uint8_t>(middle);
  const float zero = std::nearbyint(-q.offsets_NG(n, g) / q.scales_NG(n, g));
  if (!(zero >= 0.0f && zero <= static_cast<float>(q.grid.max_code())))
    throw Error(ErrorKind::kInternal, "",
                fmt::format("zero point {} of row {}, group {} is outside 0..{}", zero, n, g,
                            q.grid.max_code()));
  return static_cast<std::uint8_t>(zero);
}

std::string_view number_name(DType dtype) {
  return dtype == DType::kF16 ? "binary16" : name_of(dtype);
}

}  // namespace

std::string module_of(std::string_view weight_name) {
  constexpr std::string_view kSuffix = ".weight";
  if (weight_name.ends_with(kSuffix)) weight_name.remove_suffix(kSuffix.size());
  return std::string(weight_name);
}

Matrix<std::uint8_t> stored_zeros(const quant::QuantizedMatrix& q) {
  auto zeros_NG = Matrix<std::uint8_t>::uninitialized(q.out_features(), q.scales_NG.cols());
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
  if (q.group_of_column_K.empty() ||
      q.group_of_column_K == quant::consecutive_groups(K, q.grid.group_size_for(K)))
    return;
  throw Error(ErrorKind::kInternal, "",
              fmt::format("activation-ordered groups have no place in {}", layout));
}

}  // namespace calque::formats
