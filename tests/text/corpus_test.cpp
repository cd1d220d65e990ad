#include "calque/text/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/io/sha256.h"
#include "text/byte_tokenizer.h"
#include "text/support.h"
#include "text/token_stream.h"

namespace calque::text {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

TextSource source(const std::filesystem::path& path, double weight = 0) {
  TextSource s;
  s.path = path;
  s.weight = weight;
  return s;
}

PackingOptions options(std::int64_t n_samples, std::int64_t seqlen,
                       Packing packing = Packing::kConcat) {
  PackingOptions o;
  o.n_samples = n_samples;
  o.seqlen = seqlen;
  o.packing = packing;
  return o;
}

// Rows as the text that ByteTokenizer made them of; padding left out.
std::vector<std::string> rows_of(const PackedTokens& packed) {
  std::vector<std::string> rows;
  for (Index b = 0; b < packed.blocks.rows(); ++b) {
    const std::int32_t* ids = packed.blocks.ids_BS.row(b);
    rows.emplace_back(ids, ids + packed.blocks.lengths_B[static_cast<std::size_t>(b)]);
  }
  return rows;
}

std::string pack_error(const std::vector<TextSource>& sources, const PackingOptions& o,
                       ErrorKind kind = ErrorKind::kInput) {
  return error_of([&] { pack_tokens(sources, ByteTokenizer(), o); }, kind);
}

TEST(PackConcat, CutsJoinedDocumentsIntoRowsWithBos) {
  const Folder folder;
  const auto path = folder.write("a.jsonl", "{\"text\":\"abcd\"}\n{\"text\":\"efghi\"}\n");
  const auto packed = pack_tokens({source(path)}, ByteTokenizer(), options(3, 4));
  EXPECT_THAT(rows_of(packed), UnorderedElementsAre("^abc", "^def", "^ghi"));
  const auto& report = packed.manifest.sources.at(0);
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.tokens, 9);
  EXPECT_EQ(report.rows_available, 3);
  EXPECT_EQ(report.rows_used, 3);
  EXPECT_EQ(packed.blocks.token_count(), 12);
}

TEST(PackConcat, NeverDoublesBos) {
  const Folder folder;
  const auto path = folder.write("a.txt", "^abcdefg");
  EXPECT_THAT(rows_of(pack_tokens({source(path)}, ByteTokenizer(), options(2, 4))),
              UnorderedElementsAre("^abc", "^def"));
  auto without = options(2, 4);
  without.add_bos = false;
  EXPECT_THAT(rows_of(pack_tokens({source(path)}, ByteTokenizer(), without)),
              UnorderedElementsAre("^abc", "defg"));
}

TEST(PackTruncate, GivesOneRowADocumentAndCountsShortOnes) {
  const Folder folder;
  auto s = source(folder.write("a.txt", "abcdef|gh|ijk||lm"));
  s.split_on = "|";
  const auto packed = pack_tokens({s}, ByteTokenizer(), options(2, 4, Packing::kTruncate));
  EXPECT_THAT(rows_of(packed), UnorderedElementsAre("^abc", "^ijk"));
  EXPECT_EQ(packed.manifest.sources[0].documents, 4);
  EXPECT_EQ(packed.manifest.sources[0].documents_skipped, 2);
}

TEST(PackPad, KeepsShortDocumentsAndTheirLengths) {
  const Folder folder;
  auto s = source(folder.write("a.txt", "abcdef|gh"));
  s.split_on = "|";
  const auto packed = pack_tokens({s}, ByteTokenizer(), options(2, 5, Packing::kPad));
  EXPECT_THAT(rows_of(packed), UnorderedElementsAre("^abcd", "^gh"));
  EXPECT_EQ(packed.blocks.seqlen(), 5);
  EXPECT_THAT(packed.blocks.lengths_B, UnorderedElementsAre(5, 3));
  EXPECT_EQ(packed.blocks.token_count(), 8);
}

TEST(PackTokens, IsTheSameForTheSameSeedOnly) {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 997; ++i) text += static_cast<char>('a' + i * i % 26);
  const auto path = folder.write("a.txt", text);
  auto o = options(50, 7);
  o.seed = 42;
  const auto first = pack_tokens({source(path)}, ByteTokenizer(), o);
  EXPECT_EQ(rows_of(first), rows_of(pack_tokens({source(path)}, ByteTokenizer(), o)));
  o.seed = 43;
  EXPECT_NE(rows_of(first), rows_of(pack_tokens({source(path)}, ByteTokenizer(), o)));
}

// The first outputs of SplitMix64 for seed 1234567 (Vigna's reference implementation).
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317u);
  EXPECT_EQ(random.next(), 3203168211198807973u);
}

// Fisher-Yates by hand for seed 0: the draws below 4, 3 and 2 follow from SplitMix64's first
// outputs 16294208416658607535, 7960286522194355700 and 487617019471545679: 3, 0, 1.
TEST(Shuffle, IsFisherYatesFromTheEnd) {
  std::vector<int> items{0, 1, 2, 3};
  Random random(0);
  shuffle(items, random);
  // 3<->3, then 2<->0, then 1<->1.
  EXPECT_THAT(items, ElementsAre(2, 1, 0, 3));
}

TEST(PackTokens, SharesRowsByWeight) {
  const Folder folder;
  const auto a = folder.write("a.txt", std::string(100, 'a'));
  const auto b = folder.write("b.txt", std::string(100, 'b'));
  const auto c = folder.write("c.txt", std::string(100, 'c'));
  const auto used = [&](const std::vector<TextSource>& sources) {
    std::vector<std::int64_t> counts;
    const auto packed = pack_tokens(sources, ByteTokenizer(), options(10, 5));
    for (const auto& report : packed.manifest.sources) counts.push_back(report.rows_used);
    EXPECT_EQ(packed.blocks.rows(), 10);
    return counts;
  };
  EXPECT_THAT(used({source(a, 0.7), source(b, 0.3)}), ElementsAre(7, 3));
  EXPECT_THAT(used({source(a, 7), source(b, 3)}), ElementsAre(7, 3));
  EXPECT_THAT(used({source(a, 0.5), source(b), source(c)}), ElementsAre(5, 3, 2));
  EXPECT_THAT(used({source(a), source(b), source(c)}), ElementsAre(4, 3, 3));
}

TextSource may_run_out(const std::filesystem::path& path, double weight) {
  TextSource s = source(path, weight);
  s.may_run_out = true;
  return s;
}

TEST(PackTokens, SourcesThatMayRunOutLeaveTheirRowsToTheOthers) {
  const Folder folder;
  const auto a = folder.write("a.txt", std::string(400, 'a'));  // 100 rows
  const auto b = folder.write("b.txt", std::string(400, 'b'));
  const auto small = folder.write("small.txt", std::string(12, 's'));  // 3 rows
  const std::vector<TextSource> sources{source(a, 0.5), source(b, 0.25), may_run_out(small, 0.25)};
  const auto packed = pack_tokens(sources, ByteTokenizer(), options(40, 5));
  std::vector<std::int64_t> counts;
  for (const auto& report : packed.manifest.sources) counts.push_back(report.rows_used);
  EXPECT_THAT(counts, ElementsAre(25, 12, 3));  // 37 are left, two to one
  // While it lasts, it gives its share.
  const auto few = pack_tokens(sources, ByteTokenizer(), options(8, 5));
  EXPECT_EQ(few.manifest.sources[2].rows_used, 2);
  // The source that must give its share has 100 rows, two thirds of what small leaves.
  EXPECT_EQ(rows_available(sources, ByteTokenizer(), options(500, 5)), 153);
}

TEST(PackTokens, AllSourcesMayRunOutAndHaveTooFewRowsTogether) {
  const Folder folder;
  const auto a = folder.write("a.txt", std::string(40, 'a'));
  const auto b = folder.write("b.txt", std::string(12, 'b'));
  const std::vector<TextSource> sources{may_run_out(a, 0.5), may_run_out(b, 0.5)};
  EXPECT_EQ(pack_tokens(sources, ByteTokenizer(), options(13, 5)).blocks.rows(), 13);
  EXPECT_THAT(pack_error(sources, options(14, 5)), HasSubstr("set n_samples: 13."));
}

TEST(Weights, OfSeveralSourcesOfOneEntryAreItsShare) {
  TextSource quarter = source("a.txt");
  quarter.part = 0.25;
  TextSource most = source("b.txt");
  most.part = 0.75;
  const auto settled = [&](double weight_of_other) {
    std::vector<TextSource> sources{quarter, most, source("c.txt", weight_of_other)};
    settle_weights(sources);
    return std::vector<double>{sources[0].weight, sources[1].weight, sources[2].weight};
  };
  EXPECT_THAT(settled(0), ElementsAre(0.125, 0.375, 0.5));
  EXPECT_THAT(settled(0.5), ElementsAre(0.125, 0.375, 0.5));
  EXPECT_THAT(settled(0.75), ElementsAre(0.0625, 0.1875, 0.75));
}

TEST(PackTokens, RefusesWeightsWithoutSense) {
  const Folder folder;
  const auto a = folder.write("a.txt", "abcdefgh");
  EXPECT_THAT(pack_error({source(a, 1), source(a)}, options(1, 4), ErrorKind::kConfig),
              HasSubstr("leaves nothing for the 1 without a weight"));
  EXPECT_THAT(pack_error({source(a, -0.5)}, options(1, 4), ErrorKind::kConfig),
              HasSubstr("a.txt: weight -0.5 is not a share"));
}

TEST(PackTokens, SaysHowManyRowsThereAre) {
  const Folder folder;
  const auto path = folder.write("wiki.txt", std::string(10350, 'x'));
  EXPECT_EQ(
      pack_error({source(path)}, options(512, 101)),
      "E201: calibration needs 512 x 101 = 51,712 tokens; sources give 10,350 (wiki.txt: "
      "10,350 tokens in 1 documents, 103 of the 512 rows wanted). Add data, or set n_samples: "
      "103. Short rows are not dropped with packing: concat.");
}

TEST(PackTokens, SuggestsANumberOfRowsThatTheSharesAllow) {
  const Folder folder;
  const auto big = folder.write("big.txt", std::string(400, 'x'));
  const auto small = folder.write("small.txt", std::string(12, 'y'));
  const std::vector<TextSource> sources{source(big, 0.75), source(small, 0.25)};
  // 100 rows of big, 3 of small; a quarter of 14 is 3.5, and the tie goes to the first source.
  EXPECT_THAT(pack_error(sources, options(40, 5)),
              AllOf(HasSubstr("small.txt: 12 tokens in 1 documents, 3 of the 10 rows wanted"),
                    HasSubstr("set n_samples: 14.")));
  EXPECT_EQ(pack_tokens(sources, ByteTokenizer(), options(14, 5)).blocks.rows(), 14);
  EXPECT_THAT(pack_error(sources, options(15, 5)), StartsWith("E201"));
}

TEST(PackTokens, SaysThatShortDocumentsWereSkipped) {
  const Folder folder;
  auto s = source(folder.write("a.txt", "ab|cd|efghij"));
  s.split_on = "|";
  EXPECT_THAT(pack_error({s}, options(2, 5, Packing::kTruncate)),
              AllOf(HasSubstr("1 of the 2 rows wanted (2 documents too short)"),
                    HasSubstr("set n_samples: 1."), HasSubstr("packing: concat would use")));
  EXPECT_THAT(pack_error({s}, options(2, 50, Packing::kTruncate)),
              HasSubstr("use a smaller seqlen"));
}

TEST(PackTokens, RefusesImpossibleSizes) {
  const Folder folder;
  const auto a = source(folder.write("a.txt", "abcdefgh"));
  EXPECT_THAT(pack_error({a}, options(0, 4), ErrorKind::kConfig), HasSubstr("n_samples is 0"));
  EXPECT_THAT(pack_error({a}, options(1, 1), ErrorKind::kConfig),
              HasSubstr("seqlen 1 has no room for text after 1 special token;"));
  EXPECT_THAT(pack_error({a}, options(INT64_MAX, INT64_MAX), ErrorKind::kConfig),
              HasSubstr("more than memory can hold"));
  EXPECT_THAT(pack_error({}, options(1, 4), ErrorKind::kConfig), HasSubstr("no text sources"));
}

TEST(Manifest, HoldsHashesAndFirstIds) {
  const Folder folder;
  const auto path = folder.write("a.txt", "abcdefgh");
  const auto packed = pack_tokens({source(path)}, ByteTokenizer(), options(1, 9));
  const auto& manifest = packed.manifest;
  EXPECT_EQ(manifest.sources[0].path, "a.txt");
  // sha256sum of the file; and of the nine ids as little-endian 32-bit integers (Python's hashlib).
  EXPECT_EQ(manifest.sources[0].sha256,
            "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab");
  EXPECT_EQ(manifest.tokens_sha256,
            "2ddb2962983bcf949da60bbca23cec6785d1872d81c96e726baf25a5950e0ad3");
  EXPECT_EQ(manifest.tokenizer, "bytes");
  EXPECT_THAT(manifest.first_ids, ElementsAre('^', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'));
}

TEST(InvalidText, IsReplacedAndCounted) {
  const Folder folder;
  const auto text = folder.write("a.txt", "ab\xFFz");
  auto packed = pack_tokens({source(text)}, ByteTokenizer(), options(1, 7));
  EXPECT_EQ(rows_of(packed)[0], "^ab\xEF\xBF\xBDz");
  EXPECT_EQ(packed.manifest.sources[0].invalid_utf8, 1);
  // A lone surrogate, a pair (U+1F600), an escaped backslash, and a raw bad byte.
  const auto lines = folder.write("a.jsonl",
                                  "{\"text\":\"\\ud83dx\"}\n{\"text\":\"\\ud83d\\ude00\"}\n"
                                  "{\"text\":\"\\\\ud83d\"}\n{\"text\":\"\xC0\"}\n");
  packed = pack_tokens({source(lines)}, ByteTokenizer(), options(4, 8, Packing::kPad));
  EXPECT_THAT(rows_of(packed), UnorderedElementsAre("^\xEF\xBF\xBDx", "^\xF0\x9F\x98\x80",
                                                    "^\\ud83d", "^\xEF\xBF\xBD"));
  EXPECT_EQ(packed.manifest.sources[0].invalid_utf8, 2);
}

TEST(Jsonl, NamesTheLineThatIsWrong) {
  const Folder folder;
  const auto error = [&](const std::string& lines) {
    return pack_error({source(folder.write("a.jsonl", lines))}, options(1, 4));
  };
  EXPECT_THAT(error("{\"text\":\"abcd\"}\n\n{\"text\":\n"), HasSubstr("a.jsonl:3: not JSON"));
  EXPECT_THAT(error("{\"text\":\"abcd\"}\n{\"content\":\"x\",\"id\":3}\n"),
              HasSubstr("a.jsonl:2: has no column 'text'; its columns: 'content', 'id'. "
                        "Calibration sources can name another one: text_column."));
  EXPECT_THAT(error("{\"text\":5}\n"), HasSubstr("a.jsonl:1: column 'text' is number, not text"));
  EXPECT_THAT(error("[1]\n"), HasSubstr("a.jsonl:1: holds array, not an object"));
}

TEST(Jsonl, TakesTheColumnThatIsAsked) {
  const Folder folder;
  auto s = source(folder.write("a.jsonl", "{\"text\":\"no\",\"body\":\"abc\"}\n"));
  s.text_column = "body";
  EXPECT_THAT(rows_of(pack_tokens({s}, ByteTokenizer(), options(1, 4))), ElementsAre("^abc"));
}

TEST(TextFiles, OfOtherFormatsAreRefusedByName) {
  const Folder folder;
  EXPECT_THAT(pack_error({source(folder.write("a.parquet", "PAR1"))}, options(1, 4)),
              HasSubstr("a '.parquet' file is not read as text"));
  EXPECT_THAT(pack_error({source(folder.write("a.csv.gz", "a,b"))}, options(1, 4)),
              HasSubstr("a '.csv' file is not read as text"));
  EXPECT_THAT(pack_error({source(folder.path() / "none.txt")}, options(1, 4)),
              HasSubstr("none.txt"));
}

}  // namespace
}  // namespace calque::text
