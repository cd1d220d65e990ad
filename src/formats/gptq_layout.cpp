#include "formats/gptq_layout.h"

#include <fmt/format.h>

#include <cstring>

#include "formats/packed_folder.h"
#include "calque/core/error.h"
#include "calque/kernels/pack_bits.h"

namespace calque::formats {
namespace {

// 0x55555555, 0x11111111, 0x01010101: one in every field of a word.
std::uint32_t one_in_every_field(int bits) {
  std::uint32_t word = 0;
  for (int shift = 0; shift < 32; shift += bits) word |= std::uint32_t{1} << shift;
  return word;
}

bool fields_fill_words(int bits) { return 32 % bits == 0; }

// Fields of qzeros [G, N].
Matrix<std::uint8_t> zero_fields(const quant::QuantizedMatrix& q, bool v2) {
  auto fields_GN = transposed(stored_zeros(q));
  if (v2) return fields_GN;
  for (Index g = 0; g < fields_GN.rows(); ++g)
    for (Index n = 0; n < fields_GN.cols(); ++n) {
      if (fields_GN(g, n) == 0)
        throw Error(ErrorKind::kInternal, "",
                    fmt::format("zero point 0 in row {}, group {}: checkpoint_format 'gptq' has no "
                                "portable way to store it, 'gptq_v2' has",
                                n, g));
      --fields_GN(g, n);
    }
  return fields_GN;
}

Matrix<Half> half_scales(const quant::QuantizedMatrix& q) {
  auto scales_GN = Matrix<Half>::uninitialized(q.scales_NG.cols(), q.out_features());
  const std::vector<std::byte> bytes = stored_scales(transposed(q.scales_NG), DType::kF16);
  std::memcpy(scales_GN.data(), bytes.data(), bytes.size());
  return scales_GN;
}

// formats_gptq_awq.md section 1.1.
class GptqLayout : public PackedLayout {
 public:
  GptqLayout(bool v2, const Exec& exec) : v2_(v2), exec_(exec) {}

  std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                             const quant::Grid& grid) const override {
    const Index groups = grid.groups(K);
    return {{module + ".qweight", DType::kI32, {packed_words(K, grid.bits), N}},
            {module + ".qzeros", DType::kI32, {groups, packed_words(N, grid.bits)}},
            {module + ".scales", DType::kF16, {groups, N}},
            {module + ".g_idx", DType::kI32, {K}}};
  }

  std::vector<NamedBytes> pack(const std::string& module,
                               const quant::QuantizedMatrix& q) const override {
    const GptqTensors packed = pack_gptq(q, v2_, exec_);
    return {{module + ".qweight", bytes_of(packed.qweight.data(), packed.qweight.size())},
            {module + ".qzeros", bytes_of(packed.qzeros.data(), packed.qzeros.size())},
            {module + ".scales", bytes_of(packed.scales.data(), packed.scales.size())},
            {module + ".g_idx",
             bytes_of(packed.g_idx.data(), static_cast<Index>(packed.g_idx.size()))}};
  }

 private:
  bool v2_;
  Exec exec_;
};

}  // namespace

std::string gptq_checkpoint_format(bool sym, const std::string& requested) {
  if (requested != "auto") return requested;
  return sym ? "gptq" : "gptq_v2";
}

std::unique_ptr<PackedLayout> gptq_layout(bool v2, const Exec& exec) {
  return std::make_unique<GptqLayout>(v2, exec);
}

GptqTensors pack_gptq(const quant::QuantizedMatrix& q, bool v2, const Exec& exec) {
  const Index N = q.out_features();
  const Index K = q.in_features();
  const int bits = q.grid.bits;
  GptqTensors packed;
  packed.qweight = Matrix<std::int32_t>(packed_words(K, bits), N);
  pack_columns(transposed(q.codes_NK), bits, packed.qweight, exec);
  const Matrix<std::uint8_t> zeros_GN = zero_fields(q, v2);
  packed.qzeros = Matrix<std::int32_t>(zeros_GN.rows(), packed_words(N, bits));
  pack_rows(zeros_GN, bits, packed.qzeros, exec);
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

}  // namespace calque::formats
