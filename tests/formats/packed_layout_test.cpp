// AWQ and compressed-tensors, word by word. Expected words and shapes: worked out by hand.
#include <gtest/gtest.h>

#include <cstring>

#include "formats/packed_format.h"
#include "formats/support.h"

namespace calque::formats {
namespace {

using testing::error_of;
using testing::random_quantized;

quant::Grid integer_grid(int bits, Index group_size, bool sym) {
  quant::Grid grid;
  grid.bits = bits;
  grid.group_size = group_size;
  grid.offset_kind = sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  return grid;
}

// One input, one group a row: output n has code codes[n] and zero point zeros[n].
quant::QuantizedMatrix column_of(const std::vector<int>& codes, const std::vector<int>& zeros,
                                 int bits = 4) {
  quant::QuantizedMatrix q;
  const auto N = static_cast<Index>(codes.size());
  q.grid = integer_grid(bits, -1, zeros.empty());
  q.groups().codes_NK = Matrix<std::uint8_t>(N, 1);
  q.groups().scales_NG = Matrix<float>(N, 1);
  q.groups().offsets_NG = Matrix<float>(N, 1);
  for (Index n = 0; n < N; ++n) {
    const auto at = static_cast<std::size_t>(n);
    q.groups().codes_NK(n, 0) = static_cast<std::uint8_t>(codes[at]);
    q.groups().scales_NG(n, 0) = 0.5f;
    q.groups().offsets_NG(n, 0) =
        -0.5f * static_cast<float>(zeros.empty() ? 1 << (bits - 1) : zeros[at]);
  }
  return q;
}

quant::QuantizedMatrix row_on(const std::vector<int>& codes, int bits) {
  quant::QuantizedMatrix q = column_of({0}, {}, bits);
  q.groups().codes_NK = Matrix<std::uint8_t>(1, static_cast<Index>(codes.size()));
  for (std::size_t k = 0; k < codes.size(); ++k)
    q.groups().codes_NK(0, static_cast<Index>(k)) = static_cast<std::uint8_t>(codes[k]);
  return q;
}

std::vector<std::uint32_t> stored_words(const std::vector<NamedBytes>& tensors,
                                        const std::string& name) {
  for (const NamedBytes& tensor : tensors) {
    if (tensor.name != "m." + name) continue;
    std::vector<std::uint32_t> words(tensor.bytes.size() / 4);
    std::memcpy(words.data(), tensor.bytes.data(), tensor.bytes.size());
    return words;
  }
  ADD_FAILURE() << "no tensor " << name;
  return {};
}

const PackedFormat& awq() { return *format_named("awq").packed; }
const PackedFormat& compressed_tensors() { return *format_named("compressed-tensors").packed; }

std::vector<NamedBytes> pack(const PackedFormat& format, const quant::QuantizedMatrix& q) {
  return format.pack("m", q, {.checkpoint_format = "gptq_v2"});
}

TEST(AwqLayout, InterleavesTheNibblesOfEightOutputs) {
  const auto packed = [](const std::vector<int>& codes) {
    return stored_words(pack(awq(), column_of(codes, {})), "qweight");
  };
  EXPECT_EQ(packed({0, 1, 2, 3, 4, 5, 6, 7}), std::vector<std::uint32_t>{0x75316420u});
  EXPECT_EQ(packed({1, 2, 3, 4, 5, 6, 7, 8}), std::vector<std::uint32_t>{0x86427531u});
}
TEST(AwqLayout, StoresZeroPointsAsTheyAreInTheSameOrder) {
  const auto tensors = pack(awq(), column_of(std::vector<int>(8, 3), {0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(stored_words(tensors, "qzeros"), std::vector<std::uint32_t>{0x75316420u});
}
TEST(AwqLayout, StoresEightForSymmetricGrids) {
  const auto tensors = pack(awq(), column_of(std::vector<int>(8, 3), {}));
  EXPECT_EQ(stored_words(tensors, "qzeros"), std::vector<std::uint32_t>{0x88888888u});
}

TEST(CompressedTensorsLayout, PacksRowsFromTheLowEnd) {
  std::vector<int> codes(16);  // -8..7, stored plus 8
  for (int k = 0; k < 16; ++k) codes[static_cast<std::size_t>(k)] = k;
  EXPECT_EQ(stored_words(pack(compressed_tensors(), row_on(codes, 4)), "weight_packed"),
            (std::vector<std::uint32_t>{0x76543210u, 0xFEDCBA98u}));
  EXPECT_EQ(
      stored_words(pack(compressed_tensors(), row_on({0, 127, 128, 255}, 8)), "weight_packed"),
      std::vector<std::uint32_t>{0xFF807F00u});
}
TEST(CompressedTensorsLayout, PacksZeroPointsAlongTheOutputs) {
  const auto tensors =
      pack(compressed_tensors(), column_of(std::vector<int>(8, 1), {0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(stored_words(tensors, "weight_zero_point"), std::vector<std::uint32_t>{0x76543210u});
}

std::vector<std::vector<Index>> shapes_of(const PackedFormat& format, const quant::Grid& grid) {
  std::vector<std::vector<Index>> shapes;
  for (const io::TensorDeclaration& tensor : format.declare("m", 96, 64, grid))
    shapes.push_back(tensor.shape);
  return shapes;
}
using Shapes = std::vector<std::vector<Index>>;

TEST(PackedLayouts, HaveTheShapesOfTheFormats) {
  EXPECT_EQ(shapes_of(awq(), integer_grid(4, 32, true)), (Shapes{{64, 12}, {2, 12}, {2, 96}}));
  EXPECT_EQ(shapes_of(compressed_tensors(), integer_grid(4, 32, false)),
            (Shapes{{96, 8}, {96, 2}, {2}, {12, 2}}));
  EXPECT_EQ(shapes_of(compressed_tensors(), integer_grid(8, -1, true)),
            (Shapes{{96, 16}, {96, 1}, {2}}));
}

TEST(PackedLayouts, PackWhatTheyDeclare) {
  for (const bool sym : {true, false})
    for (const PackedFormat* format :
         {format_named("gptq").packed, &awq(), &compressed_tensors()}) {
      const quant::Grid grid = integer_grid(4, 32, sym);
      const auto declared = format->declare("m", 96, 64, grid);
      const auto packed = pack(*format, random_quantized(grid, 96, 64, 3));
      ASSERT_EQ(packed.size(), declared.size());
      for (std::size_t i = 0; i < packed.size(); ++i) {
        EXPECT_EQ(packed[i].name, declared[i].name);
        EXPECT_EQ(packed[i].bytes.size(), declared[i].byte_count()) << packed[i].name;
      }
    }
}

TEST(PackedLayouts, RefuseActivationOrderWhereItHasNoPlace) {
  quant::Grid grid = integer_grid(4, 32, true);
  grid.desc_act = true;
  const auto q = random_quantized(grid, 96, 64, 3);
  for (const PackedFormat* format : {&awq(), &compressed_tensors()}) {
    const Error error = error_of([&] { pack(*format, q); });
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

TEST(PackedLayouts, StoreScalesInTheTypeOfTheGrid) {
  quant::Grid grid = integer_grid(4, 32, true);
  const auto dtype = [&](ScalePrecision precision) {
    grid.precision = precision;
    return compressed_tensors().declare("m", 96, 64, grid)[1].dtype;
  };
  EXPECT_EQ(dtype(ScalePrecision::kF16), DType::kF16);
  EXPECT_EQ(dtype(ScalePrecision::kBF16), DType::kBF16);
  EXPECT_EQ(dtype(ScalePrecision::kF16AndBF16), DType::kBF16);
}

}  // namespace
}  // namespace calque::formats
