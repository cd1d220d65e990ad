// AWQ's GEMM layout (formats_gptq_awq.md section 3.1): packed along the outputs, with permuted
// nibbles, true zero points (8 everywhere for symmetric grids, because loaders' fast kernels want
// zero points) and no g_idx.
#include "formats/packed_folder.h"
#include "formats/packed_layout.h"

namespace calque::formats {
namespace {

constexpr Index kPerWord = 8;
// Nibble i of word c holds column 8c + kColumnOf[i].
constexpr int kColumnOf[kPerWord] = {0, 2, 4, 6, 1, 3, 5, 7};

// codes [N, R] -> words [R, N / 8]
Matrix<std::int32_t> pack_nibbles(MatrixView<const std::uint8_t> codes_NR) {
  Matrix<std::int32_t> words(codes_NR.cols(), codes_NR.rows() / kPerWord);
  for (Index r = 0; r < words.rows(); ++r)
    for (Index c = 0; c < words.cols(); ++c) {
      std::uint32_t word = 0;
      for (int i = 0; i < kPerWord; ++i)
        word |= static_cast<std::uint32_t>(codes_NR(c * kPerWord + kColumnOf[i], r)) << (4 * i);
      words(r, c) = static_cast<std::int32_t>(word);
    }
  return words;
}

class AwqLayout : public PackedLayout {
 public:
  std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                             const quant::Grid& grid) const override {
    const Index groups = grid.groups(K);
    return {{module + ".qweight", DType::kI32, {K, N / kPerWord}},
            {module + ".qzeros", DType::kI32, {groups, N / kPerWord}},
            {module + ".scales", DType::kF16, {groups, N}}};
  }

  std::vector<NamedBytes> pack(const std::string& module,
                               const quant::QuantizedMatrix& q) const override {
    require_consecutive_groups(q, "AWQ");
    const Matrix<std::int32_t> words = pack_nibbles(q.codes_NK);
    const Matrix<std::int32_t> zeros = pack_nibbles(stored_zeros(q));
    return {{module + ".qweight", bytes_of(words.data(), words.size())},
            {module + ".qzeros", bytes_of(zeros.data(), zeros.size())},
            {module + ".scales", stored_scales(transposed(q.scales_NG), DType::kF16)}};
  }
};

}  // namespace

std::unique_ptr<PackedLayout> awq_layout() { return std::make_unique<AwqLayout>(); }

}  // namespace calque::formats
