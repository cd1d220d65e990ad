// Ids made by other programs: the Hugging Face tokenizers library (tokenizer.json) and
// SentencePiece (tokenizer.model); see tests/fixtures/tokenizers/README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include "support/paths.h"
#include "text/support.h"

namespace calque::text {
namespace {

TokenIds ids_of(const nlohmann::json& value) { return value.get<TokenIds>(); }

TokenIds joined(TokenIds a, const TokenIds& b, const TokenIds& c) {
  a.insert(a.end(), b.begin(), b.end());
  a.insert(a.end(), c.begin(), c.end());
  return a;
}

class GoldenIds : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenIds, AreEqual) {
  const auto folder = tokenizer_fixture(GetParam());
  const auto tokenizer = load_tokenizer(folder);
  const auto cases = load_json(folder / "golden.json").at("cases");
  ASSERT_EQ(cases.size(), 36u);
  for (const auto& test : cases) {
    const auto text = test.at("text").get<std::string>();
    const TokenIds ids = tokenizer->encode(text);
    EXPECT_EQ(ids, ids_of(test.at("ids"))) << text;
    if (test.contains("ids_with_special")) {
      EXPECT_EQ(joined(tokenizer->prefix(), ids, tokenizer->suffix()),
                ids_of(test.at("ids_with_special")))
          << text;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenIds,
                         ::testing::Values("bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2",
                                           "bytelevel_tekken", "metaspace_always",
                                           "metaspace_first", "metaspace_never",
                                           "sentencepiece_bpe", "sentencepiece_unigram",
                                           "smollm2"));

// Each variant changes some parts of one tokenizer.json.
TEST(GoldenComponents, GiveTheSameIds) {
  const auto base = small_tokenizer();
  for (const auto& variant : load_json(tokenizer_fixture("components") / "golden.json")) {
    auto document = base;
    document.merge_patch(variant.at("override"));
    const auto tokenizer = load_from_json(document);
    for (const auto& test : variant.at("cases")) {
      const auto text = test.at("text").get<std::string>();
      const TokenIds expected = ids_of(test.at("ids"));
      EXPECT_EQ(tokenizer->encode(text), expected) << variant.at("name") << ": " << text;
      const auto plain = test.find("ids_without_parsing");
      EXPECT_EQ(tokenizer->encode(text, false), plain == test.end() ? expected : ids_of(*plain))
          << variant.at("name") << ", special tokens as text: " << text;
    }
  }
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

const std::filesystem::path kNovel =
    std::filesystem::path(test::calibration_data()) / "heldout_pride_and_prejudice.txt";

// Count and first ids from SentencePiece's own Python package.
TEST(DemoTokenizer, GivesTheIdsOfTheWholeNovel) {
  const TokenIds ids = load_tokenizer(test::demo_model())->encode(read(kNovel));
  EXPECT_EQ(ids.size(), 183687u);
  const TokenIds first(ids.begin(), ids.begin() + 16);
  EXPECT_EQ(first, (TokenIds{307, 13, 1493, 341, 261, 1963, 511, 1819, 515, 261, 499, 2883, 880,
                             1058, 4013, 323}));
}

double seconds_for(const Tokenizer& tokenizer, const std::string& text) {
  const auto start = std::chrono::steady_clock::now();
  EXPECT_GT(tokenizer.encode(text).size(), 100000u);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// 0.7 MB at once take about 0.1 s; a merge that is quadratic in the length of its word (here the
// whole text) would take hours.
TEST(Encode, IsFastForOneLongText) {
  const std::string text = read(kNovel);
  for (const char* name : {"smollm2", "metaspace_first", "sentencepiece_bpe"})
    EXPECT_LT(seconds_for(*load_tokenizer(tokenizer_fixture(name)), text), 20.0) << name;
}

}  // namespace
}  // namespace calque::text
