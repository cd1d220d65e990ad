// compressed-tensors, "pack-quantized" (formats_gptq_awq.md section 4): codes packed along the
// inputs of each row, zero points, of asymmetric grids only, along the outputs.
#include "formats/packed_layout.h"
#include "calque/kernels/pack_bits.h"

namespace calque::formats {
namespace {

bool is_symmetric(const quant::Grid& grid) { return grid.offset_kind == OffsetKind::kMiddleCode; }

DType scale_dtype(const quant::Grid& grid) {
  return grid.precision == ScalePrecision::kF16 ? DType::kF16 : DType::kBF16;
}

NamedBytes pack_zeros(const std::string& module, const quant::QuantizedMatrix& q,
                      const Exec& exec) {
  const Matrix<std::uint8_t> zeros_NG = stored_zeros(q);
  Matrix<std::int32_t> words(packed_words(zeros_NG.rows(), q.grid.bits), zeros_NG.cols());
  pack_columns(zeros_NG, q.grid.bits, words, exec);
  return {module + ".weight_zero_point", bytes_of(words.data(), words.size())};
}

class CompressedTensorsLayout : public PackedLayout {
 public:
  explicit CompressedTensorsLayout(const Exec& exec) : exec_(exec) {}

  std::vector<io::TensorDeclaration> declare(const std::string& module, Index N, Index K,
                                             const quant::Grid& grid) const override {
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

  std::vector<NamedBytes> pack(const std::string& module,
                               const quant::QuantizedMatrix& q) const override {
    require_consecutive_groups(q, "compressed-tensors");
    Matrix<std::int32_t> words(q.out_features(), packed_words(q.in_features(), q.grid.bits));
    pack_rows(q.codes_NK, q.grid.bits, words, exec_);
    const std::int64_t shape[] = {q.out_features(), q.in_features()};
    std::vector<NamedBytes> tensors = {
        {module + ".weight_packed", bytes_of(words.data(), words.size())},
        {module + ".weight_scale", stored_scales(q.scales_NG, scale_dtype(q.grid))},
        {module + ".weight_shape", bytes_of(shape, 2)}};
    if (!is_symmetric(q.grid)) tensors.push_back(pack_zeros(module, q, exec_));
    return tensors;
  }

 private:
  Exec exec_;
};

}  // namespace

std::unique_ptr<PackedLayout> compressed_tensors_layout(const Exec& exec) {
  return std::make_unique<CompressedTensorsLayout>(exec);
}

}  // namespace calque::formats
