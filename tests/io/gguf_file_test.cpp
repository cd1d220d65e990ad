#include <cstring>

#include "calque/io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;

// Made by llama.cpp; the expected values were listed by a separate reader of the layout.
class LlamaCppFile : public ::testing::Test {
 protected:
  GgufFile file_{test::fixtures() + "/gguf/tiny-1layer-Q4_0.gguf"};
};

TEST_F(LlamaCppFile, HasItsKeysInFileOrder) {
  ASSERT_EQ(file_.metadata().size(), 28u);
  EXPECT_EQ(file_.metadata()[0].first, "general.architecture");
  EXPECT_EQ(file_.metadata()[27].first, "llama.block_count");
}

TEST_F(LlamaCppFile, HasItsScalars) {
  EXPECT_EQ(file_.string("general.architecture"), "llama");
  EXPECT_EQ(file_.string("general.size_label"), "1.3M");
  EXPECT_EQ(file_.integer("llama.embedding_length"), 256);
  EXPECT_EQ(file_.integer("general.file_type"), 2);
  EXPECT_EQ(file_.real("llama.rope.freq_base"), 10000.0);
  EXPECT_EQ(file_.real("llama.attention.layer_norm_rms_epsilon"), double{1e-5f});
  EXPECT_EQ(file_.boolean("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(file_.boolean("tokenizer.ggml.add_eos_token"), false);
}

TEST_F(LlamaCppFile, HasItsArrays) {
  const auto& array = std::get<GgufValue::Array>(file_.find("tokenizer.ggml.tokens")->value);
  const auto& tokens = std::get<std::vector<std::string>>(array);
  ASSERT_EQ(tokens.size(), 320u);
  EXPECT_EQ(tokens[0], "<unk>");
  EXPECT_EQ(tokens[4], "<0x01>");
  const auto& types = std::get<std::vector<std::int32_t>>(
      std::get<GgufValue::Array>(file_.find("tokenizer.ggml.token_type")->value));
  EXPECT_EQ(types[3], 6);
}

TEST_F(LlamaCppFile, HasItsTensors) {
  ASSERT_EQ(file_.tensors().size(), 12u);
  const GgufTensor& output = file_.tensors()[0];
  EXPECT_EQ(output.name, "output.weight");
  EXPECT_EQ(output.type, ggml::Type::kQ6_K);
  EXPECT_THAT(output.ne, ElementsAre(256, 320));
  EXPECT_EQ(output.bytes.size(), 67'200u);  // 320 rows of one block of 210 bytes
  const GgufTensor& key = *file_.find_tensor("blk.0.attn_k.weight");
  EXPECT_EQ(key.type, ggml::Type::kQ4_0);
  EXPECT_THAT(key.ne, ElementsAre(256, 128));
  EXPECT_EQ(key.element_count(), 32'768u);
  EXPECT_EQ(key.bytes.size(), 18'432u);  // 1024 blocks of 18 bytes
}

// Header 8642 bytes, so the data starts at 8672; offsets as listed in the file.
TEST_F(LlamaCppFile, PlacesTensorsAtTheirOffsets) {
  const std::string bytes = content_of(file_.path());
  const GgufTensor& norm = *file_.find_tensor("blk.0.ffn_norm.weight");
  EXPECT_EQ(text_of(norm.bytes), bytes.substr(8'672 + 373'376, 1'024));
  EXPECT_EQ(file_.file_bytes(), 456'800u);
}

TEST_F(LlamaCppFile, HasNothingUnderOtherNames) {
  EXPECT_EQ(file_.find("llama"), nullptr);
  EXPECT_EQ(file_.find_tensor("blk.1.attn_k.weight"), nullptr);
  EXPECT_EQ(file_.integer("no.such.key"), std::nullopt);
}

TEST_F(LlamaCppFile, RefusesAKeyOfAnotherKind) {
  EXPECT_THAT(error_of([&] { file_.integer("general.name"); }),
              IsError(ErrorKind::kInput, "key 'general.name' is not an integer"));
  EXPECT_THAT(error_of([&] { file_.integer("tokenizer.ggml.tokens"); }),
              IsError(ErrorKind::kInput, "key 'tokenizer.ggml.tokens' is not an integer"));
  EXPECT_THAT(error_of([&] { file_.integer("tokenizer.ggml.add_bos_token"); }),
              IsError(ErrorKind::kInput, "is not an integer"));
  EXPECT_THAT(error_of([&] { file_.real("llama.vocab_size"); }),
              IsError(ErrorKind::kInput, "is not a floating-point number"));
  EXPECT_THAT(error_of([&] { file_.boolean("llama.vocab_size"); }),
              IsError(ErrorKind::kInput, "is not a truth value"));
  EXPECT_THAT(error_of([&] { file_.string("llama.vocab_size"); }),
              IsError(ErrorKind::kInput, "is not a text"));
}

GgufFile open(const TempFolder& folder, const std::string& bytes) {
  put(folder / "a.gguf", bytes);
  return GgufFile(folder / "a.gguf");
}

TEST(GgufFile, ReadsIntegersOfEveryWidth) {
  const TempFolder folder;
  const GgufFile file =
      open(folder, gguf({gguf_key("u8", 0, "\xff"), gguf_key("i8", 1, "\xff"),
                         gguf_key("u16", 2, "\xff\xff"), gguf_key("i16", 3, "\xff\xff"),
                         gguf_key("u32", 4, u32(~0u)), gguf_key("i32", 5, u32(~0u)),
                         gguf_key("u64", 10, u64(~0ull >> 1)), gguf_key("i64", 11, u64(~0ull)),
                         gguf_key("too large", 10, u64(~0ull)), gguf_key("f64", 12, raw(0.1))},
                        {}));
  EXPECT_EQ(file.integer("u8"), 255);
  EXPECT_EQ(file.integer("i8"), -1);
  EXPECT_EQ(file.integer("u16"), 65'535);
  EXPECT_EQ(file.integer("i16"), -1);
  EXPECT_EQ(file.integer("u32"), 4'294'967'295);
  EXPECT_EQ(file.integer("i32"), -1);
  EXPECT_EQ(file.integer("u64"), 9'223'372'036'854'775'807);
  EXPECT_EQ(file.integer("i64"), -1);
  EXPECT_EQ(file.real("f64"), 0.1);
  EXPECT_THAT(error_of([&] { file.integer("too large"); }),
              IsError(ErrorKind::kInput, "key 'too large' is not an integer of 63 bits"));
}

TEST(GgufFile, ReadsVersionTwo) {
  const TempFolder folder;
  const GgufFile file = open(folder, padded(gguf_header(0, 1, 2) + gguf_key("k", 4, u32(5))));
  EXPECT_EQ(file.integer("k"), 5);
}

TEST(GgufFile, ObeysAnotherAlignment) {
  const TempFolder folder;
  std::string bytes = gguf_header(2, 1) + gguf_key("general.alignment", 4, u32(64)) +
                      gguf_tensor("t", {1}, 0, 0) + gguf_tensor("u", {1}, 0, 64);
  const GgufFile file = open(folder, padded(bytes, 64) + padded("abcd", 64) + "efgh");
  EXPECT_EQ(text_of(file.find_tensor("u")->bytes), "efgh");
}

TEST(GgufFile, NeedsNoPaddingAfterTheLastTensor) {
  const TempFolder folder;
  const GgufFile file = open(folder, gguf({}, {gguf_tensor("t", {3}, 0, 0)}, 12));
  EXPECT_EQ(file.find_tensor("t")->bytes.size(), 12u);
}

TEST(GgufFile, AcceptsEmptyTensorsAndNamesOf63Bytes) {
  const TempFolder folder;
  const std::string name(63, 'n');
  const GgufFile file =
      open(folder, gguf({}, {gguf_tensor(name, {32, 0, 5}, 2, 0), gguf_tensor("u", {1}, 0, 0)}, 4));
  EXPECT_EQ(file.find_tensor(name)->element_count(), 0u);
  EXPECT_EQ(file.find_tensor("u")->bytes.size(), 4u);
}

}  // namespace
}  // namespace calque::io
