#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "calque/io/safetensors.h"
#include "calque/text/corpus.h"
#include "support/paths.h"
#include "text/byte_tokenizer.h"
#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::vector<std::int32_t>> id_rows(const PackedTokens& packed) {
  std::vector<std::vector<std::int32_t>> rows;
  const auto& ids = packed.blocks.ids_BS;
  for (Index b = 0; b < ids.rows(); ++b) rows.emplace_back(ids.row(b), ids.row(b) + ids.cols());
  return rows;
}

TEST(ConsecutiveWindows, KeepTheOrderOfTheText) {
  const Folder folder;
  const auto path = folder.write("a.txt", "abcdefgh");
  const auto all = consecutive_windows(path, ByteTokenizer(), 3, 0);
  EXPECT_THAT(id_rows(all), ElementsAre(ElementsAre('a', 'b', 'c'), ElementsAre('d', 'e', 'f')));
  EXPECT_THAT(all.blocks.lengths_B, ElementsAre(3, 3));
  EXPECT_EQ(all.manifest.sources[0].tokens, 8);
  EXPECT_EQ(all.manifest.sources[0].rows_available, 2);
  const auto one = consecutive_windows(path, ByteTokenizer(), 3, 1);
  EXPECT_THAT(id_rows(one), ElementsAre(ElementsAre('a', 'b', 'c')));
  EXPECT_EQ(consecutive_windows(path, ByteTokenizer(), 3, 9).blocks.rows(), 2);
}

TEST(ConsecutiveWindows, RefuseATextWithoutAFullOne) {
  const Folder folder;
  const auto path = folder.write("a.txt", "abcd");
  EXPECT_THAT(error_of([&] { consecutive_windows(path, ByteTokenizer(), 5, 0); }),
              AllOf(StartsWith("E201"), HasSubstr("gives 4 tokens, not one window of 5")));
}

// 183,687 tokens (SentencePiece's own count) are 358 windows of 512 and 391 tokens more.
TEST(ConsecutiveWindows, CoverTheHeldOutNovel) {
  const auto path =
      std::filesystem::path(test::calibration_data()) / "heldout_pride_and_prejudice.txt";
  const auto packed = consecutive_windows(path, *load_tokenizer(test::demo_model()), 512, 0);
  EXPECT_EQ(packed.manifest.sources[0].tokens, 183687);
  EXPECT_EQ(packed.blocks.rows(), 358);
  EXPECT_THAT(packed.manifest.first_ids, ElementsAre(307, 13, 1493, 341, 261, 1963, 511, 1819, 515,
                                                     261, 499, 2883, 880, 1058, 4013, 323));
}

// With "^" in front each window is three tokens of the text, the third only predicted.
TEST(ConsecutiveWindows, BeginWithThePrefixAndLoseNoToken) {
  const Folder folder;
  const auto path = folder.write("a.txt", "abcdefghij");
  const auto packed = consecutive_windows(path, ByteTokenizer(), 3, 0, {'^'});
  EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre('^', 'a', 'b'), ElementsAre('^', 'd', 'e'),
                                           ElementsAre('^', 'g', 'h')));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre('c', 'f', 'i'));
  EXPECT_EQ(packed.manifest.sources[0].tokens, 10);
  EXPECT_EQ(packed.manifest.sources[0].rows_available, 3);
}

TEST(ConsecutiveWindows, MayEndWithTheLastTokenThatIsRead) {
  const Folder folder;
  const auto packed =
      consecutive_windows(folder.write("a.txt", "abcde"), ByteTokenizer(), 3, 0, {'^'});
  EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre('^', 'a', 'b'), ElementsAre('^', 'd', 'e')));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre('c', -1));
}

// At the beginning of the text, and where the second window begins: "^" takes a place of its own,
// so that no token is predicted twice.
TEST(ConsecutiveWindows, HaveThePrefixOnce) {
  const Folder folder;
  const auto packed =
      consecutive_windows(folder.write("a.txt", "^abc^defgh"), ByteTokenizer(), 3, 0, {'^'});
  EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre('^', 'a', 'b'), ElementsAre('^', 'd', 'e'),
                                           ElementsAre('^', 'f', 'g')));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre('c', -1, 'h'));
}

TEST(ConsecutiveWindows, MayBeginWithSeveralTokens) {
  const Folder folder;
  const auto packed =
      consecutive_windows(folder.write("a.txt", "abcdefg"), ByteTokenizer(), 4, 0, {'^', '%'});
  EXPECT_THAT(id_rows(packed),
              ElementsAre(ElementsAre('^', '%', 'a', 'b'), ElementsAre('^', '%', 'd', 'e')));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre('c', 'f'));
}

// A post-processor as Llama 3 has it; its first token is called <|endoftext|> here.
TEST(ConsecutiveWindows, BeginWithWhatLlama3sTokenizerPutsFirst) {
  const auto tokenizer =
      load_tokenizer(std::filesystem::path(test::fixtures()) / "tokenizers" / "bytelevel_llama3");
  ASSERT_EQ(tokenizer->prefix().size(), 1u);
  EXPECT_EQ(tokenizer->prefix().front(), tokenizer->id_of("<|endoftext|>"));
  const Folder folder;
  const std::string text = "It is a truth universally acknowledged, that a single man";
  const TokenIds ids = tokenizer->encode(text);
  const auto packed =
      consecutive_windows(folder.write("a.txt", text), *tokenizer, 4, 2, tokenizer->prefix());
  EXPECT_THAT(id_rows(packed)[1],
              ElementsAre(tokenizer->prefix().front(), ids.at(4), ids.at(5), ids.at(6)));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre(ids.at(3), ids.at(7)));
}

std::filesystem::path write_ids(const Folder& folder, const std::string& name, DType dtype,
                                std::vector<Index> shape, const std::vector<std::int64_t>& ids) {
  io::SafetensorsWriter writer(folder.path(), {{name, dtype, shape}});
  std::string bytes;
  for (const std::int64_t id : ids)
    bytes.append(reinterpret_cast<const char*>(&id), size_of(dtype));  // little-endian
  writer.write(name, std::as_bytes(std::span(bytes.data(), bytes.size())));
  writer.finish();
  return folder.path() / "model.safetensors";
}

TEST(LoadTokens, CutsOneLongRow) {
  const Folder folder;
  const auto path = write_ids(folder, "input_ids", DType::kI64, {7}, {1, 2, 3, 4, 5, 6, 7});
  const auto packed = load_tokens(path, 3, 0, 10);
  EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5, 6)));
  EXPECT_EQ(packed.manifest.sources[0].tokens, 7);
  EXPECT_EQ(packed.manifest.sources[0].path, "model.safetensors");
  EXPECT_EQ(load_tokens(path, 0, 0, 10).blocks.seqlen(), 7);
}

TEST(LoadTokens, KeepsRowsApart) {
  const Folder folder;
  const auto path = write_ids(folder, "ids", DType::kI32, {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(id_rows(load_tokens(path, 0, 0, 10)),
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(4, 5, 6)));
  EXPECT_THAT(id_rows(load_tokens(path, 2, 0, 10)),
              ElementsAre(ElementsAre(1, 2), ElementsAre(4, 5)));
  EXPECT_THAT(id_rows(load_tokens(path, 3, 1, 10)), ElementsAre(ElementsAre(1, 2, 3)));
}

TEST(LoadTokens, BeginsWindowsWithThePrefix) {
  const Folder folder;
  const auto path = write_ids(folder, "ids", DType::kI32, {2, 4}, {1, 2, 3, 4, 9, 6, 7, 8});
  const auto packed = load_tokens(path, 0, 0, 10, {9});
  EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre(9, 1, 2, 3), ElementsAre(9, 6, 7, 8)));
  EXPECT_THAT(packed.blocks.next_B, ElementsAre(4, -1));
}

TEST(LoadTokens, RefusesIdsOutsideTheVocabulary) {
  const Folder folder;
  const auto path = write_ids(folder, "ids", DType::kI64, {3}, {1, std::int64_t{1} << 32, 3});
  EXPECT_THAT(error_of([&] { load_tokens(path, 0, 0, 10); }),
              HasSubstr("holds id 4294967296 at position 1, outside the vocabulary [0, 10)"));
  const Folder other;
  const auto negative = write_ids(other, "ids", DType::kI16, {2}, {1, -1});
  EXPECT_THAT(error_of([&] { load_tokens(negative, 0, 0, 10); }), HasSubstr("holds id -1"));
}

TEST(LoadTokens, SaysHowManyRowsThereAre) {
  const Folder folder;
  const auto path = write_ids(folder, "ids", DType::kU8, {2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(
      error_of([&] { load_tokens(path, 3, 5, 10); }),
      AllOf(StartsWith("E201"), HasSubstr("gives 2 rows of 3 tokens, not 5; set n_samples: 2")));
  EXPECT_THAT(error_of([&] { check_tokens(path, 3, 5, 10, {}, "windows"); }),
              HasSubstr("set windows: 2"));
  EXPECT_THAT(error_of([&] { load_tokens(path, 4, 0, 10); }),
              AllOf(StartsWith("E201"), HasSubstr("its rows have 3 tokens, fewer than seqlen 4")));
}

// ids [[7, 1, 2, 3], [4, 5, 7, 7]] and a mask.
std::filesystem::path write_masked(const Folder& folder, const std::vector<std::uint8_t>& mask,
                                   std::int32_t padding) {
  io::SafetensorsWriter writer(
      folder.path(), {{"ids", DType::kI32, {2, 4}}, {"attention_mask", DType::kU8, {2, 4}}});
  const std::vector<std::int32_t> ids = {padding, 1, 2, 3, 4, 5, padding, padding};
  writer.write("ids", std::as_bytes(std::span(ids)));
  writer.write("attention_mask", std::as_bytes(std::span(mask)));
  writer.finish();
  return folder.path() / "model.safetensors";
}

TEST(LoadTokens, LeavesOutWhatTheMaskDoes) {
  std::string hash;
  for (const std::int32_t padding : {7, 9}) {
    const Folder folder;
    const auto packed =
        load_tokens(write_masked(folder, {0, 1, 1, 1, 1, 1, 0, 0}, padding), 0, 0, 10);
    EXPECT_THAT(id_rows(packed), ElementsAre(ElementsAre(1, 2, 3, 0), ElementsAre(4, 5, 0, 0)));
    EXPECT_THAT(packed.blocks.lengths_B, ElementsAre(3, 2));
    EXPECT_EQ(packed.manifest.sources[0].tokens, 5);
    if (hash.empty()) hash = packed.manifest.tokens_sha256;
    EXPECT_EQ(packed.manifest.tokens_sha256, hash);
  }
}

TEST(LoadTokens, CutsMaskedRowsAndKeepsTheRest) {
  const Folder folder;
  const auto packed = load_tokens(write_masked(folder, {0, 1, 1, 1, 1, 1, 0, 0}, 7), 2, 0, 10);
  EXPECT_THAT(id_rows(packed),
              ElementsAre(ElementsAre(1, 2), ElementsAre(3, 0), ElementsAre(4, 5)));
  EXPECT_THAT(packed.blocks.lengths_B, ElementsAre(2, 1, 2));
}

TEST(LoadTokens, RefusesAMaskWithHoles) {
  const Folder folder;
  EXPECT_THAT(error_of([&] {
                load_tokens(write_masked(folder, {1, 1, 1, 1, 1, 0, 1, 0}, 7), 0, 0, 10);
              }),
              HasSubstr("leaves out tokens inside row 1"));
}

TEST(LoadTokens, RefusesTensorsThatAreNoIds) {
  const Folder floats;
  EXPECT_THAT(
      error_of([&] { load_tokens(write_ids(floats, "x", DType::kF32, {1}, {1}), 0, 0, 9); }),
      HasSubstr("has no integer tensor"));
  const Folder deep;
  EXPECT_THAT(error_of([&] {
                load_tokens(write_ids(deep, "x", DType::kI32, {1, 1, 1}, {1}), 0, 0, 9);
              }),
              HasSubstr("has shape [1, 1, 1]; rank 1 or 2 is expected"));
  const Folder empty;
  EXPECT_THAT(error_of([&] { load_tokens(write_ids(empty, "x", DType::kI32, {0}, {}), 0, 0, 9); }),
              HasSubstr("holds no token ids"));
  EXPECT_THAT(error_of([&] { load_tokens("ids.txt", 0, 0, 9); }),
              HasSubstr("read from .safetensors files"));
  EXPECT_THAT(error_of([&] { load_tokens("ids.npy", 0, 0, 9); }),
              HasSubstr("safetensors.numpy.save_file({\"input_ids\": ids}"));
}

}  // namespace
}  // namespace calque::text
