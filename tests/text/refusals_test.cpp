// Refusals of a tokenizer.json: parts that are not implemented, and damage.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string refusal(const std::function<void(nlohmann::json&)>& change) {
  auto document = small_tokenizer();
  change(document);
  return error_of([&] { load_from_json(document); });
}

TEST(Unsupported, NamesTheComponentAndItsPlace) {
  EXPECT_THAT(
      refusal([](auto& t) {
        t["pre_tokenizer"] = {
            {"type", "Sequence"},
            {"pretokenizers", {{{"type", "WhitespaceSplit"}}, {{"type", "UnicodeScripts"}}}}};
      }),
      StartsWith("E211: tokenizer.json: pre_tokenizer.pretokenizers[1]: pre-tokenizer "
                 "'UnicodeScripts' is not implemented. calque does not guess: instead of text, "
                 "give token ids"));
  EXPECT_THAT(refusal([](auto& t) {
                t["normalizer"] = {{"type", "StripAccents"}};
              }),
              StartsWith("E211: tokenizer.json: normalizer: normalizer 'StripAccents' is not"));
  EXPECT_THAT(refusal([](auto& t) {
                t["post_processor"] = {{"type", "BertProcessing"}};
              }),
              StartsWith("E211: tokenizer.json: post_processor: post-processor 'BertProcessing'"));
}

TEST(Unsupported, NamesOtherModels) {
  for (const char* type : {"WordPiece", "Unigram", "WordLevel"})
    EXPECT_THAT(
        refusal([&](auto& t) { t["model"]["type"] = type; }),
        StartsWith(std::string("E211: tokenizer.json: model: model '") + type + "' is not"));
}

TEST(Unsupported, RefusesOptionsOfBpeThatChangeIds) {
  EXPECT_THAT(refusal([](auto& t) { t["model"]["dropout"] = 0.1; }),
              StartsWith("E211: tokenizer.json: model.dropout: is not 0"));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["end_of_word_suffix"] = "</w>"; }),
              StartsWith("E211: tokenizer.json: model.end_of_word_suffix"));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["continuing_subword_prefix"] = "##"; }),
              StartsWith("E211: tokenizer.json: model.continuing_subword_prefix"));
}

TEST(Unsupported, RefusesTemplatesOfAnotherShape) {
  EXPECT_THAT(refusal([](auto& t) {
                t["post_processor"] = {
                    {"type", "TemplateProcessing"},
                    {"single", {{{"Sequence", {{"id", "A"}}}}, {{"Sequence", {{"id", "A"}}}}}},
                    {"special_tokens", nlohmann::json::object()}};
              }),
              StartsWith("E211: tokenizer.json: post_processor.single[1]"));
}

std::string pattern_refusal(const std::string& regex) {
  return refusal([&](auto& t) {
    t["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
  });
}

TEST(Unsupported, RefusesPatternsThatTheEngineWouldMisread) {
  EXPECT_THAT(
      pattern_refusal("[\\p{L}&&[^\\p{Han}]]"),
      StartsWith("E211: tokenizer.json: pre_tokenizer.pattern.Regex: uses class intersection "
                 "'&&' (offset 6), which this regex engine would misread"));
  for (const char* regex : {"\\w+", "[a[bc]]", "a{2}+", "a{,3}", "(?x)a b", "\\bword", "(a)\\1",
                            "[[:alpha:]]", "\\xC3", "(?i:\\p{Lu})", "\\h", "\\u00e", "[abc"})
    EXPECT_THAT(pattern_refusal(regex),
                AllOf(StartsWith("E211: tokenizer.json: pre_tokenizer.pattern.Regex: uses "),
                      HasSubstr("(offset ")))
        << regex;
}

TEST(Unsupported, RefusesPatternsThatDoNotCompile) {
  EXPECT_THAT(pattern_refusal("a(b"), HasSubstr("cannot be compiled: missing closing parenthesis"));
  EXPECT_THAT(pattern_refusal("\\p{Klingon}"), HasSubstr("cannot be compiled"));
}

TEST(Damaged, SaysWhereInTheFile) {
  EXPECT_THAT(refusal([](auto& t) { t.erase("model"); }),
              HasSubstr("tokenizer.json: has no 'model'"));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["vocab"]["x y"] = -1; }),
              HasSubstr("tokenizer.json: model.vocab.x y: is -1, outside [0, "));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["vocab"]["x y"] = 1ull << 63; }),
              HasSubstr("is 9223372036854775808, outside [0, "));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["vocab"]["x y"] = 0; }),
              HasSubstr("model.vocab: id 0 is given to two tokens"));
  EXPECT_THAT(refusal([](auto& t) {
                t["model"]["merges"].push_back({"q", "☃"});
              }),
              HasSubstr("a part or the whole is not in the vocabulary"));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["merges"][3] = "a b c"; }),
              HasSubstr("model.merges[3]: 'a b c' is not two parts"));
  EXPECT_THAT(refusal([](auto& t) { t["model"]["unk_token"] = "<none>"; }),
              HasSubstr("model.unk_token: '<none>' is not in the vocabulary"));
  EXPECT_THAT(refusal([](auto& t) { t["normalizer"] = 3; }),
              HasSubstr("tokenizer.json: normalizer: is number, not an object"));
}

TEST(Damaged, RefusesAddedTokensWhoseIdsWouldBeOthers) {
  EXPECT_THAT(
      refusal([](auto& t) {
        t["added_tokens"] = {{{"id", 700}, {"content", "<x>"}}};
      }),
      HasSubstr("added_tokens[0]: gives '<x>' the id 700, but a reader gives it 548, the next "
                "one that is free"));
  EXPECT_THAT(refusal([](auto& t) {
                t["added_tokens"] = {{{"id", 700}, {"content", "<unk>"}}};
              }),
              HasSubstr("added_tokens[0]: gives '<unk>' the id 700, but a reader gives it 0"));
}

TEST(Damaged, NamesTheFileThatIsNotJson) {
  const Folder folder;
  folder.write("tokenizer.json", "{\"model\": ");
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
              AllOf(HasSubstr("tokenizer.json: not JSON")));
}

// "merges" were strings before tokenizers 0.20 and are pairs since.
TEST(Merges, AreReadAsStringsToo) {
  auto document = small_tokenizer();
  const auto pairs = load_from_json(document);
  for (auto& merge : document["model"]["merges"]) {
    // A part that holds a space itself cannot be spelled the old way.
    const auto left = merge[0].get<std::string>();
    const auto right = merge[1].get<std::string>();
    if (left.find(' ') == std::string::npos && right.find(' ') == std::string::npos)
      merge = left + ' ' + right;
  }
  ASSERT_TRUE(document["model"]["merges"].dump().find(",\"") != std::string::npos);
  const std::string text = "the final countdown of all";
  EXPECT_EQ(load_from_json(document)->encode(text), pairs->encode(text));
}

TEST(PostProcessor, GivesPrefixAndSuffix) {
  auto document = small_tokenizer();
  document["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "B"}}}},
        {{"Sequence", {{"id", "A"}}}},
        {{"SpecialToken", {{"id", "E"}}}}}},
      {"special_tokens", {{"B", {{"ids", {7, 8}}}}, {"E", {{"ids", {9}}}}}}};
  const auto tokenizer = load_from_json(document);
  EXPECT_EQ(tokenizer->prefix(), (TokenIds{7, 8}));
  EXPECT_EQ(tokenizer->suffix(), TokenIds{9});
}

TEST(JsonTokenizer, KnowsItsVocabulary) {
  const auto tokenizer = load_tokenizer(tokenizer_fixture("bytelevel_llama3"));
  EXPECT_EQ(tokenizer->vocab_size(), 3002);
  EXPECT_EQ(tokenizer->id_of("<|im_end|>"), 3001);
  EXPECT_EQ(tokenizer->id_of("!"), 1);
  EXPECT_EQ(tokenizer->token(3000), "<|im_start|>");
  EXPECT_EQ(tokenizer->token(3002), "");
  EXPECT_EQ(tokenizer->description(), "tokenizer.json: byte-level BPE, 3002 tokens");
}

// Ids of U+FFFD's bytes EF BF BD, from the vocabulary; golden.json has the same for the character.
TEST(JsonTokenizer, ReplacesInvalidUtf8) {
  const auto tokenizer = load_tokenizer(tokenizer_fixture("bytelevel_gpt2"));
  EXPECT_EQ(tokenizer->encode("a\xFF z"), tokenizer->encode("a\xEF\xBF\xBD z"));
}

}  // namespace
}  // namespace calque::text
