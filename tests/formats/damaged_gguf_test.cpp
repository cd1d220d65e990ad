// GGUF files whose metadata and tensors contradict each other: what the error says. What the
// container itself can get wrong is the io module's test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/gguf.h"
#include "formats/support.h"
#include "support/damage.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

class DamagedGguf : public ::testing::Test {
 protected:
  std::string error_with(
      const std::function<void(io::GgufMetadata&)>& change_keys,
      const std::function<void(std::vector<io::GgufTensorDeclaration>&)>& change_tensors =
          [](auto&) {}) {
    TinyModel::Options options;
    options.layers = 1;
    const TinyModel model(folder_ / "Tiny", options);
    ExportRequest request;
    request.format = "gguf";
    request.path = folder_ / "sound.gguf";
    request.type = "F16";
    write_random(model.plan(request), model.inputs());
    rewrite(change_keys, change_tensors);
    const Error error = error_of([&] { open_artifact(folder_ / "damaged.gguf"); });
    EXPECT_EQ(error.kind(), ErrorKind::kInput) << error.what();
    return error.what();
  }

  static void set(io::GgufMetadata& keys, const std::string& key, std::uint32_t value) {
    for (auto& [name, old] : keys)
      if (name == key) old = io::GgufValue(io::GgufValue::Scalar(value));
  }
  static void drop(io::GgufMetadata& keys, const std::string& key) {
    std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
  }

 private:
  void rewrite(const std::function<void(io::GgufMetadata&)>& change_keys,
               const std::function<void(std::vector<io::GgufTensorDeclaration>&)>& change_tensors) {
    const io::GgufFile sound(folder_ / "sound.gguf");
    io::GgufMetadata keys = sound.metadata();
    change_keys(keys);
    std::vector<io::GgufTensorDeclaration> declared;
    for (const io::GgufTensor& t : sound.tensors()) declared.push_back({t.name, t.type, t.ne});
    change_tensors(declared);
    io::GgufWriter writer(folder_ / "damaged.gguf", keys, declared);
    for (const io::GgufTensorDeclaration& t : declared)
      writer.write(t.name, std::vector<std::byte>(t.byte_count()));
    writer.finish();
  }

  TempFolder folder_;
};

TEST_F(DamagedGguf, AnArchitectureThatIsNotRead) {
  EXPECT_THAT(error_with([](io::GgufMetadata& keys) {
                keys.front().second = io::GgufValue(io::GgufValue::Scalar(std::string("mamba")));
              }),
              AllOf(HasSubstr("damaged.gguf"), HasSubstr("architecture 'mamba' cannot be read")));
}
TEST_F(DamagedGguf, AMissingSize) {
  EXPECT_THAT(error_with([](io::GgufMetadata& keys) { drop(keys, "llama.embedding_length"); }),
              HasSubstr("key 'llama.embedding_length' is missing"));
}
TEST_F(DamagedGguf, AMissingEpsilon) {
  EXPECT_THAT(error_with([](io::GgufMetadata& keys) {
                drop(keys, "llama.attention.layer_norm_rms_epsilon");
              }),
              HasSubstr("key 'llama.attention.layer_norm_rms_epsilon' is missing"));
}
TEST_F(DamagedGguf, NoHeads) {
  EXPECT_THAT(
      error_with([](io::GgufMetadata& keys) { set(keys, "llama.attention.head_count", 0); }),
      HasSubstr("key 'llama.attention.head_count' is 0"));
}
TEST_F(DamagedGguf, MoreBlocksThanTensors) {
  EXPECT_THAT(error_with([](io::GgufMetadata& keys) { set(keys, "llama.block_count", 200000000); }),
              HasSubstr("key 'block_count' is 200000000, but the file has 12 tensors"));
}
TEST_F(DamagedGguf, ASizeThatTheTensorsContradict) {
  EXPECT_THAT(
      error_with([](io::GgufMetadata& keys) { set(keys, "llama.feed_forward_length", 128); }),
      HasSubstr("tensor 'blk.0.ffn_gate.weight' has shape [96, 64], but the metadata requires "
                "[128, 64]"));
}
TEST_F(DamagedGguf, AMissingTensor) {
  EXPECT_THAT(error_with([](auto&) {},
                         [](auto& tensors) {
                           std::erase_if(tensors, [](const auto& t) {
                             return t.name == "blk.0.attn_v.weight";
                           });
                         }),
              HasSubstr("tensor 'blk.0.attn_v.weight' is missing"));
}
TEST_F(DamagedGguf, RopeDivisorsOfZero) {
  EXPECT_THAT(error_with([](auto&) {},
                         [](auto& tensors) {
                           tensors.push_back({"rope_freqs.weight", ggml::Type::kF32, {16}});
                         }),
              HasSubstr("'rope_freqs.weight' holds a divisor of 0"));
}
TEST_F(DamagedGguf, RopeDivisorsOfAnotherHeadSize) {
  EXPECT_THAT(error_with([](auto&) {},
                         [](auto& tensors) {
                           tensors.push_back({"rope_freqs.weight", ggml::Type::kF32, {32}});
                         }),
              HasSubstr("'rope_freqs.weight' must hold 16 F32 values"));
}

TEST(DamagedGgufBlocks, AnInfiniteScale) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", {});
  ExportRequest request;
  request.format = "gguf";
  request.path = folder / "sound.gguf";
  request.type = "Q4_0";
  write_random(model.plan(request), model.inputs());
  // The scale of the second block of the first row: binary16 infinity.
  const std::byte infinity[] = {std::byte{0x00}, std::byte{0x7C}};
  test::overwrite_gguf(folder / "sound.gguf", "blk.0.ffn_up.weight", 18, infinity);
  const auto reader = open_artifact(folder / "sound.gguf");
  const Error error = error_of([&] { reader->load("model.layers.0.mlp.up_proj.weight"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("tensor 'blk.0.ffn_up.weight'"),
                                  HasSubstr("block 1 of row 0 has scale inf")));
}

}  // namespace
}  // namespace calque::formats
