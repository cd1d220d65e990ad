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
  EXPECT_EQ(output.type, GgmlType::kQ6_K);
  EXPECT_THAT(output.ne, ElementsAre(256, 320));
  EXPECT_EQ(output.bytes.size(), 67'200u);  // 320 rows of one block of 210 bytes
  const GgufTensor& key = *file_.find_tensor("blk.0.attn_k.weight");
  EXPECT_EQ(key.type, GgmlType::kQ4_0);
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

// Sizes by hand from the fields of a block, see ggml's block structures.
TEST(GgmlTypes, KnowTheirBlocks) {
  const auto expect = [](std::uint32_t id, std::string_view name, int elements, int bytes) {
    const GgmlTypeInfo* info = find_ggml_type(id);
    ASSERT_NE(info, nullptr) << id;
    EXPECT_EQ(info->name, name);
    EXPECT_EQ(info->block_elements, elements) << name;
    EXPECT_EQ(info->block_bytes, bytes) << name;
    EXPECT_EQ(find_ggml_type(name), info);
    EXPECT_EQ(&info_of(info->type), info);
  };
  expect(0, "F32", 1, 4);
  expect(1, "F16", 1, 2);
  expect(2, "Q4_0", 32, 2 + 16);
  expect(3, "Q4_1", 32, 2 + 2 + 16);
  expect(6, "Q5_0", 32, 2 + 4 + 16);
  expect(7, "Q5_1", 32, 2 + 2 + 4 + 16);
  expect(8, "Q8_0", 32, 2 + 32);
  expect(9, "Q8_1", 32, 2 + 2 + 32);
  expect(10, "Q2_K", 256, 16 + 64 + 2 + 2);
  expect(11, "Q3_K", 256, 32 + 64 + 12 + 2);
  expect(12, "Q4_K", 256, 2 + 2 + 12 + 128);
  expect(13, "Q5_K", 256, 2 + 2 + 12 + 32 + 128);
  expect(14, "Q6_K", 256, 128 + 64 + 16 + 2);
  expect(15, "Q8_K", 256, 4 + 256 + 2 * 16);
  expect(16, "IQ2_XXS", 256, 2 + 2 * 32);
  expect(17, "IQ2_XS", 256, 2 + 2 * 32 + 8);
  expect(18, "IQ3_XXS", 256, 2 + 3 * 32);
  expect(19, "IQ1_S", 256, 2 + 32 + 2 * 8);
  expect(20, "IQ4_NL", 32, 2 + 16);
  expect(21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4);
  expect(22, "IQ2_S", 256, 2 + 64 + 8 + 8);
  expect(23, "IQ4_XS", 256, 2 + 2 + 4 + 128);
  expect(24, "I8", 1, 1);
  expect(25, "I16", 1, 2);
  expect(26, "I32", 1, 4);
  expect(27, "I64", 1, 8);
  expect(28, "F64", 1, 8);
  expect(29, "IQ1_M", 256, 32 + 16 + 8);
  expect(30, "BF16", 1, 2);
  expect(34, "TQ1_0", 256, 48 + 4 + 2);
  expect(35, "TQ2_0", 256, 64 + 2);
  expect(39, "MXFP4", 32, 1 + 16);
}

TEST(GgmlTypes, DoNotKnowOthers) {
  EXPECT_EQ(find_ggml_type(4u), nullptr);
  EXPECT_EQ(find_ggml_type("q4_0"), nullptr);
  EXPECT_EQ(find_ggml_type(""), nullptr);
}

}  // namespace
}  // namespace calque::io
