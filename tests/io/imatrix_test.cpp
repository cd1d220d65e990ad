// llama-imatrix's files of one run in both formats; see tests/fixtures/gguf/README.md.
#include "calque/io/imatrix.h"

#include "calque/io/gguf.h"
#include "io/io_test_support.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;

const std::string kGguf = test::fixtures() + "/gguf/tiny-imatrix.gguf";
const std::string kDat = test::fixtures() + "/gguf/tiny-imatrix.dat";

// Two experts of two columns; the second saw no token.
Imatrix stacked() {
  Imatrix imatrix;
  imatrix.entries["blk.0.ffn_down_exps.weight"] = {
      .matrices = 2, .sums = {6, 3, 0, 0}, .counts = {3, 0}};
  imatrix.entries["blk.0.attn_q.weight"] = {.matrices = 1, .sums = {5, 2.5}, .counts = {5}};
  imatrix.datasets = {"text.txt"};
  imatrix.chunks = 2;
  imatrix.chunk_size = 4;
  return imatrix;
}

TEST(Imatrix, ReadsWhatLlamaImatrixWroteAsGguf) {
  const Imatrix imatrix = read_imatrix(kGguf);
  EXPECT_EQ(imatrix.entries.size(), 14u);
  EXPECT_THAT(imatrix.datasets, ::testing::ElementsAre("imatrix_text.txt"));
  EXPECT_EQ(imatrix.chunks, 16);
  EXPECT_EQ(imatrix.chunk_size, 128);
  const ImatrixEntry* down = imatrix.find("blk.1.ffn_down.weight");
  ASSERT_NE(down, nullptr);
  EXPECT_EQ(down->matrices, 1);
  EXPECT_EQ(down->columns(), 512);
  EXPECT_THAT(down->counts, ::testing::ElementsAre(2048.0));
  EXPECT_EQ(imatrix.find("output.weight"), nullptr);
}

// The older file holds mean * 16; both roundings are fp32's.
TEST(Imatrix, ReadsTheSameMeansFromTheOlderFormat) {
  const Imatrix newer = read_imatrix(kGguf);
  const Imatrix older = read_imatrix(kDat);
  EXPECT_THAT(older.datasets, ::testing::ElementsAre("imatrix_text.txt"));
  EXPECT_EQ(older.chunks, 16);
  EXPECT_EQ(older.entries.size(), newer.entries.size());
  for (const auto& [name, entry] : newer.entries) {
    const ImatrixEntry* other = older.find(name);
    ASSERT_NE(other, nullptr) << name;
    const std::vector<float> expected = entry.mean_square(0);
    const std::vector<float> actual = other->mean_square(0);
    ASSERT_EQ(actual.size(), expected.size()) << name;
    for (std::size_t k = 0; k < expected.size(); ++k)
      EXPECT_NEAR(actual[k], expected[k], 0x1p-23f * expected[k]) << name << " " << k;
  }
}

TEST(Imatrix, WritesTheBytesOfLlamaImatrix) {
  const TempFolder out;
  const Imatrix imatrix = read_imatrix(kGguf);
  write_imatrix(imatrix, out / "a.gguf");
  write_imatrix(imatrix, out / "a.dat");
  EXPECT_EQ(content_of(out / "a.gguf"), content_of(kGguf));
  EXPECT_EQ(content_of(out / "a.dat"), content_of(kDat));
}

TEST(Imatrix, WritesTheOlderFormatBackAsItWas) {
  const TempFolder out;
  write_imatrix(read_imatrix(kDat), out / "a.dat");
  EXPECT_EQ(content_of(out / "a.dat"), content_of(kDat));
}

TEST(Imatrix, GoesFromTheOlderFormatToGguf) {
  const TempFolder out;
  const Imatrix older = read_imatrix(kDat);
  write_imatrix(older, out / "a.gguf");
  const Imatrix back = read_imatrix(out / "a.gguf");
  for (const auto& [name, entry] : older.entries)
    EXPECT_EQ(back.find(name)->mean_square(0), entry.mean_square(0)) << name;
}

TEST(Imatrix, HoldsOneMatrixAnExpert) {
  const TempFolder out;
  write_imatrix(stacked(), out / "a.gguf");
  const GgufFile file(out / "a.gguf");
  EXPECT_THAT(file.find_tensor("blk.0.ffn_down_exps.weight.in_sum2")->ne,
              ::testing::ElementsAre(2, 2));
  EXPECT_THAT(file.find_tensor("blk.0.ffn_down_exps.weight.counts")->ne,
              ::testing::ElementsAre(1, 2));
  const Imatrix back = read_imatrix(out / "a.gguf");
  const ImatrixEntry* experts = back.find("blk.0.ffn_down_exps.weight");
  EXPECT_THAT(experts->mean_square(0), ::testing::ElementsAre(2.0f, 1.0f));
}

TEST(Imatrix, AMatrixThatSawNoTokenIsAllOnes) {
  const TempFolder out;
  EXPECT_THAT(stacked().find("blk.0.ffn_down_exps.weight")->mean_square(1),
              ::testing::ElementsAre(1.0f, 1.0f));
  write_imatrix(stacked(), out / "a.dat");
  // One chunk of 4 holds the 3 tokens; the older format knows one matrix of all columns.
  const Imatrix back = read_imatrix(out / "a.dat");
  EXPECT_THAT(back.find("blk.0.ffn_down_exps.weight")->mean_square(0),
              ::testing::ElementsAre(2.0f, 1.0f, 1.0f, 1.0f));
  // 5 tokens are two chunks.
  EXPECT_THAT(back.find("blk.0.attn_q.weight")->counts, ::testing::ElementsAre(2.0));
  EXPECT_THAT(back.find("blk.0.attn_q.weight")->mean_square(0), ::testing::ElementsAre(1.0f, 0.5f));
}

TEST(Imatrix, AddsSumsAndCounts) {
  Imatrix imatrix = stacked();
  Imatrix other = stacked();
  other.entries["blk.0.ffn_down_exps.weight"] = {
      .matrices = 2, .sums = {0, 0, 8, 4}, .counts = {1, 4}};
  other.entries["blk.9.attn_q.weight"] = {.matrices = 1, .sums = {1}, .counts = {1}};
  other.datasets = {"text.txt", "more.txt"};
  imatrix.add(other);
  const ImatrixEntry& experts = imatrix.entries["blk.0.ffn_down_exps.weight"];
  EXPECT_THAT(experts.sums, ::testing::ElementsAre(6, 3, 8, 4));
  EXPECT_THAT(experts.counts, ::testing::ElementsAre(4, 4));
  EXPECT_EQ(imatrix.entries.size(), 3u);
  EXPECT_THAT(imatrix.datasets, ::testing::ElementsAre("text.txt", "more.txt"));
  EXPECT_EQ(imatrix.chunks, 4);
  EXPECT_EQ(imatrix.chunk_size, 4);
}

// The golden run once in each format: twice the tokens, the same means.
TEST(Imatrix, AddsTheOlderFormatByItsTokens) {
  for (const bool older_first : {false, true}) {
    Imatrix imatrix = read_imatrix(older_first ? kDat : kGguf);
    imatrix.add(read_imatrix(older_first ? kGguf : kDat));
    const ImatrixEntry* entry = imatrix.find("blk.0.ffn_up.weight");
    EXPECT_THAT(entry->counts, ::testing::ElementsAre(4096.0)) << older_first;
    EXPECT_EQ(imatrix.chunk_size, 128);
    const std::vector<float> expected =
        read_imatrix(kGguf).find("blk.0.ffn_up.weight")->mean_square(0);
    const std::vector<float> actual = entry->mean_square(0);
    for (std::size_t k = 0; k < expected.size(); ++k)
      EXPECT_NEAR(actual[k], expected[k], 0x1p-22f * expected[k]);
  }
}

TEST(Imatrix, AddsExpertsOfTheOlderFormat) {
  const TempFolder out;
  write_imatrix(stacked(), out / "a.dat");
  Imatrix imatrix = read_imatrix(out / "a.dat");
  imatrix.add(stacked());
  EXPECT_EQ(imatrix.find("blk.0.ffn_down_exps.weight")->matrices, 2);
}

TEST(Imatrix, DoesNotAddAnotherModels) {
  Imatrix imatrix = stacked();
  Imatrix other;
  other.entries["blk.0.attn_q.weight"] = {.matrices = 1, .sums = {1, 2, 3}, .counts = {1}};
  EXPECT_THAT(error_of([&] { imatrix.add(other); }),
              IsError(ErrorKind::kInput,
                      "entry 'blk.0.attn_q.weight' has 1 matrices of 2 columns in one importance "
                      "matrix, 1 of 3 in the other"));
}

TEST(Imatrix, RefusesToWriteWhatCannotBeRead) {
  const TempFolder out;
  Imatrix imatrix = stacked();
  const std::string name(60, 'n');
  imatrix.entries[name] = {.matrices = 1, .sums = {1}, .counts = {1}};
  EXPECT_THAT(error_of([&] { write_imatrix(imatrix, out / "a.gguf"); }),
              IsError(ErrorKind::kInput, "GGUF takes at most 63; write a .dat file"));
  write_imatrix(imatrix, out / "a.dat");
  imatrix.entries[name].sums = {-1};
  EXPECT_THAT(error_of([&] { write_imatrix(imatrix, out / "b.dat"); }),
              IsError(ErrorKind::kInput, "the sum at 0 is -1"));
  EXPECT_THAT(error_of([&] { write_imatrix({}, out / "b.gguf"); }),
              IsError(ErrorKind::kInput, "without entries"));
  EXPECT_THAT(names_in(out.path()), ::testing::ElementsAre("a.dat"));
}

}  // namespace
}  // namespace calque::io
