// Tensors of scales beside matrices in NVFP4.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <span>

#include "calque/ggml/blocks.h"
#include "calque/io/gguf.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

// A file with one matrix in NVFP4 and a scale beside it, and what its blocks alone stand for.
class Nvfp4File : public ::testing::Test {
 protected:
  Nvfp4File() : model_(folder_ / "Tiny", {.hidden = 128, .intermediate = 256, .layers = 1}) {
    ExportRequest request;
    request.format = "gguf";
    request.path = folder_ / "plain.gguf";
    request.type = "F32";
    testing::write_random(model_.plan(request), model_.inputs());
  }

  std::filesystem::path write(float scale) {
    const io::GgufFile plain(folder_ / "plain.gguf");
    std::vector<io::GgufTensorDeclaration> declared;
    for (const io::GgufTensor& tensor : plain.tensors())
      declared.push_back(
          {tensor.name, tensor.name == kMatrix ? ggml::Type::kNVFP4 : tensor.type, tensor.ne});
    declared.push_back({"blk.0.ffn_down.scale", ggml::Type::kF32, {1}});
    io::GgufWriter writer(folder_ / "nvfp4.gguf", plain.metadata(), declared);
    for (const io::GgufTensor& tensor : plain.tensors())
      if (tensor.name != kMatrix)
        writer.write(tensor.name, tensor.bytes);
      else
        writer.write(tensor.name, blocks_of(tensor));
    writer.write("blk.0.ffn_down.scale", std::as_bytes(std::span(&scale, 1)));
    writer.finish();
    return folder_ / "nvfp4.gguf";
  }

  static constexpr std::string_view kMatrix = "blk.0.ffn_down.weight";
  static constexpr std::string_view kName = "model.layers.0.mlp.down_proj.weight";
  TempFolder folder_;
  TinyModel model_;
  Matrix<float> decoded_;

 private:
  std::vector<std::byte> blocks_of(const io::GgufTensor& tensor) {
    Matrix<float> weight(128, 256);
    std::memcpy(weight.data(), tensor.bytes.data(), tensor.bytes.size());
    std::vector<std::byte> blocks(128 * ggml::row_bytes(ggml::Type::kNVFP4, 256));
    ggml::quantize(ggml::Type::kNVFP4, weight, {}, blocks.data());
    decoded_ = Matrix<float>(128, 256);
    ggml::dequantize(ggml::Type::kNVFP4, blocks.data(), decoded_);
    return blocks;
  }
};

TEST_F(Nvfp4File, IsMultipliedByItsScale) {
  const auto reader = open_artifact(write(3));
  const Matrix<float> values = reader->load(kName);
  for (Index i = 0; i < values.size(); ++i)
    ASSERT_EQ(values.data()[i], 3 * decoded_.data()[i]) << i;
  EXPECT_FALSE(reader->quantized(kName).has_value());  // blocks alone stand for other values
}

TEST_F(Nvfp4File, KeepsItsBlocksWithAScaleOfOne) {
  EXPECT_TRUE(open_artifact(write(1))->quantized(kName).has_value());
}

TEST_F(Nvfp4File, WithAScaleOfZeroIsDamaged) {
  const auto file = write(0);
  const Error error = error_of([&] { open_artifact(file); });
  EXPECT_EQ(error.code(), "E174");
  EXPECT_THAT(error.what(), HasSubstr("'blk.0.ffn_down.scale' is no positive F32 number"));
}

}  // namespace
}  // namespace calque::formats
