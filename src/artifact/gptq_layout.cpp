#include "artifact/gptq_layout.h"

#include <fmt/format.h>

#include <cmath>

#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"

namespace calque::artifact {
namespace {

// 0x55555555, 0x11111111, 0x01010101: one in every field of a word.
std::uint32_t one_in_every_field(int bits) {
  std::uint32_t word = 0;
  for (int shift = 0; shift < 32; shift += bits) word |= std::uint32_t{1} << shift;
  return word;
}

bool fields_fill_words(int bits) { return 32 % bits == 0; }

std::uint8_t zero_of(const quant::QuantizedMatrix& q, Index n, Index g) {
  const int middle = 1 << (q.grid.bits - 1);
  if (q.grid.offset_kind == OffsetKind::kMiddleCode) return static_cast<std::uint8_t>(middle);
  // A scale of 0 makes every code decode to 0, whatever the zero point.
  if (q.scales_NG(n, g) == 0.0f) return static_cast<std::uint8_t>(middle);
  const float zero = std::nearbyint(-q.offsets_NG(n, g) / q.scales_NG(n, g));
  if (!(zero >= 0.0f && zero <= static_cast<float>(q.grid.max_code())))
    throw Error(ErrorKind::kInternal, "",
                fmt::format("zero point {} of row {}, group {} is outside 0..{}", zero, n, g,
                            q.grid.max_code()));
  return static_cast<std::uint8_t>(zero);
}

Matrix<std::uint8_t> stored_zeros(const quant::QuantizedMatrix& q, bool v2) {
  const Index groups = q.scales_NG.cols();
  auto fields_GN = Matrix<std::uint8_t>::uninitialized(groups, q.out_features());
  for (Index g = 0; g < groups; ++g)
    for (Index n = 0; n < q.out_features(); ++n) {
      const std::uint8_t zero = zero_of(q, n, g);
      if (!v2 && zero == 0)
        throw Error(ErrorKind::kInternal, "",
                    fmt::format("zero point 0 in row {}, group {}: checkpoint_format 'gptq' has no "
                                "portable way to store it, 'gptq_v2' has",
                                n, g));
      fields_GN(g, n) = static_cast<std::uint8_t>(v2 ? zero : zero - 1);
    }
  return fields_GN;
}

Matrix<Half> half_scales(const quant::QuantizedMatrix& q) {
  auto scales_GN = Matrix<Half>::uninitialized(q.scales_NG.cols(), q.out_features());
  for (Index g = 0; g < scales_GN.rows(); ++g)
    for (Index n = 0; n < scales_GN.cols(); ++n) {
      const float scale = q.scales_NG(n, g);
      scales_GN(g, n) = to_half(scale);
      if (to_float(scales_GN(g, n)) != scale)
        throw Error(
            ErrorKind::kInternal, "",
            fmt::format("scale {} of row {}, group {} is not a binary16 number", scale, n, g));
    }
  return scales_GN;
}

Matrix<std::uint8_t> transposed(MatrixView<const std::uint8_t> codes_NK) {
  auto codes_KN = Matrix<std::uint8_t>::uninitialized(codes_NK.cols(), codes_NK.rows());
  for (Index n = 0; n < codes_NK.rows(); ++n)
    for (Index k = 0; k < codes_NK.cols(); ++k) codes_KN(k, n) = codes_NK(n, k);
  return codes_KN;
}

}  // namespace

std::string gptq_checkpoint_format(bool sym, const std::string& requested) {
  if (requested != "auto") return requested;
  return sym ? "gptq" : "gptq_v2";
}

std::vector<io::TensorDeclaration> gptq_declarations(const std::string& weight_name, Index N,
                                                     Index K, const quant::Grid& grid) {
  const std::string module = module_of(weight_name);
  const Index groups = grid.groups(K);
  return {{module + ".qweight", DType::kI32, {packed_words(K, grid.bits), N}},
          {module + ".qzeros", DType::kI32, {groups, packed_words(N, grid.bits)}},
          {module + ".scales", DType::kF16, {groups, N}},
          {module + ".g_idx", DType::kI32, {K}}};
}

std::string module_of(std::string_view weight_name) {
  constexpr std::string_view kSuffix = ".weight";
  if (weight_name.ends_with(kSuffix)) weight_name.remove_suffix(kSuffix.size());
  return std::string(weight_name);
}

GptqTensors pack_gptq(const quant::QuantizedMatrix& q, bool v2) {
  const Index N = q.out_features();
  const Index K = q.in_features();
  const int bits = q.grid.bits;
  GptqTensors packed;
  packed.qweight = Matrix<std::int32_t>(packed_words(K, bits), N);
  pack_columns(transposed(q.codes_NK), bits, packed.qweight);
  const Matrix<std::uint8_t> zeros_GN = stored_zeros(q, v2);
  packed.qzeros = Matrix<std::int32_t>(zeros_GN.rows(), packed_words(N, bits));
  pack_rows(zeros_GN, bits, packed.qzeros);
  packed.scales = half_scales(q);
  packed.g_idx = q.group_of_column_K.empty()
                     ? quant::consecutive_groups(K, q.grid.group_size_for(K))
                     : q.group_of_column_K;
  return packed;
}

Matrix<std::uint8_t> unpack_gptq_zeros(MatrixView<const std::int32_t> qzeros, Index N, int bits,
                                       bool v2) {
  auto words = Matrix<std::int32_t>::copy_of(qzeros);
  if (!v2 && fields_fill_words(bits)) {
    const std::uint32_t ones = one_in_every_field(bits);
    for (Index i = 0; i < words.size(); ++i)
      words.data()[i] =
          static_cast<std::int32_t>(static_cast<std::uint32_t>(words.data()[i]) + ones);
  }
  Matrix<std::uint8_t> zeros_GN(words.rows(), N);
  unpack_rows(words, bits, zeros_GN);
  if (!v2 && !fields_fill_words(bits)) {
    const int mask = (1 << bits) - 1;
    for (Index i = 0; i < zeros_GN.size(); ++i)
      zeros_GN.data()[i] = static_cast<std::uint8_t>((zeros_GN.data()[i] + 1) & mask);
  }
  return zeros_GN;
}

}  // namespace calque::artifact
