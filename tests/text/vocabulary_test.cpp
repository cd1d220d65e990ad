#include "calque/text/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/text/tokenizer.h"
#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using TokenType = Vocabulary::TokenType;

// Expected values: the output of llama.cpp's converter for the same files, key by key.
TEST(SentencePieceVocabulary, EqualsTheConverters) {
  const auto folder = tokenizer_fixture("gguf_source");
  const auto expected = load_json(folder / "gguf_metadata.json");
  const Vocabulary vocabulary = load_vocabulary(folder, 320);
  EXPECT_EQ(vocabulary.kind, Vocabulary::Kind::kSentencePiece);
  EXPECT_EQ(expected.at("model"), "llama");
  EXPECT_EQ(vocabulary.pre, expected.at("pre"));
  EXPECT_EQ(vocabulary.tokens, expected.at("tokens").get<std::vector<std::string>>());
  EXPECT_EQ(vocabulary.scores, expected.at("scores").get<std::vector<float>>());
  std::vector<int> types;
  for (const TokenType type : vocabulary.types) types.push_back(static_cast<int>(type));
  EXPECT_EQ(types, expected.at("token_type").get<std::vector<int>>());
  std::map<std::string, std::int32_t> ids;
  for (const auto& [key, value] : expected.items())
    if (key.ends_with("_token_id")) ids[key.substr(0, key.size() - 9)] = value;
  EXPECT_EQ(ids.size(), 3u);
  EXPECT_EQ(vocabulary.special_ids, ids);
  EXPECT_EQ(vocabulary.add_bos, expected.at("add_bos_token").get<bool>());
  EXPECT_EQ(vocabulary.add_eos, expected.at("add_eos_token").get<bool>());
  EXPECT_EQ(vocabulary.add_space_prefix, std::nullopt);
  EXPECT_EQ(vocabulary.chat_template, "");
}

// Conventions of the format: "[PADi]", unused, score -10000.
TEST(SentencePieceVocabulary, IsPaddedToTheEmbedding) {
  const Vocabulary vocabulary = load_vocabulary(tokenizer_fixture("gguf_source"), 322);
  ASSERT_EQ(vocabulary.tokens.size(), 322u);
  EXPECT_EQ(vocabulary.tokens[321], "[PAD321]");
  EXPECT_EQ(vocabulary.types[321], TokenType::kUnused);
  EXPECT_EQ(vocabulary.scores[321], -10000.0f);
}

// Beyond the model: score -1000, control if special or if it looks so, else user-defined with
// spaces for U+2581.
TEST(SentencePieceVocabulary, TypesAddedTokens) {
  const Folder folder;
  folder.copy_from(tokenizer_fixture("gguf_source") / "tokenizer.model");
  folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "0": {"content": "<unk>", "special": true},
      "320": {"content": "<end>", "special": true},
      "321": {"content": "<|user|>", "special": false},
      "322": {"content": "\u2581code", "special": false}}})");
  const Vocabulary vocabulary = load_vocabulary(folder.path(), 323);
  EXPECT_EQ(vocabulary.types[0], TokenType::kUnknown);
  EXPECT_EQ(vocabulary.types[320], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[321], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[322], TokenType::kUserDefined);
  EXPECT_EQ(vocabulary.tokens[322], " code");
  EXPECT_EQ(vocabulary.scores[322], -1000.0f);
  EXPECT_EQ(vocabulary.special_ids.at("bos"), 1);
  EXPECT_EQ(vocabulary.special_ids.at("eos"), 2);
}

TEST(SentencePieceVocabulary, RefusesUnigram) {
  EXPECT_THAT(error_of([] { load_vocabulary(tokenizer_fixture("sentencepiece_unigram"), 2000); }),
              StartsWith("E211: tokenizer.model is not a BPE model"));
}

TEST(Vocabulary, RefusesMoreTokensThanRows) {
  EXPECT_THAT(error_of([] { load_vocabulary(tokenizer_fixture("gguf_source"), 319); }),
              HasSubstr("has 320 tokens, but the embedding only 319 rows"));
  EXPECT_THAT(error_of([] { load_vocabulary(tokenizer_fixture("bytelevel_qwen2"), 3001); }),
              HasSubstr("has 3002 tokens, but the embedding only 3001 rows"));
}

TEST(Vocabulary, SaysWhatIsMissing) {
  const Folder folder;
  EXPECT_THAT(error_of([&] { load_vocabulary(folder.path(), 1); }),
              HasSubstr("has neither tokenizer.model nor tokenizer.json"));
}

TEST(PreName, IsDecidedByTheContentOfThePreTokenizer) {
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("bytelevel_llama3"), 3002).pre, "llama-bpe");
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("bytelevel_qwen2"), 3002).pre, "qwen2");
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("bytelevel_tekken"), 3002).pre, "tekken");
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("bytelevel_gpt2"), 3002).pre, "gpt-2");
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("smollm2"), 49152).pre, "gpt-2");
}

nlohmann::json gpt2_tokenizer() {
  return load_json(tokenizer_fixture("bytelevel_gpt2") / "tokenizer.json");
}

Vocabulary vocabulary_of(const nlohmann::json& document, const std::string& pre = "") {
  const Folder folder;
  folder.write("tokenizer.json", document.dump());
  return load_vocabulary(folder.path(), 3002, pre);
}

// Tekken's with the split of o200k_base.
nlohmann::json o200k_tokenizer() {
  auto document = load_json(tokenizer_fixture("bytelevel_tekken") / "tokenizer.json");
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
      R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3})"
      R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  return document;
}

// Expected ids: Hugging Face's tokenizers 0.23.
TEST(PreName, OfGpt4oSplitsAsTheTokenizerDoes) {
  const Folder folder;
  folder.write("tokenizer.json", o200k_tokenizer().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(
      tokenizer->encode("DON'T we'RE camelCaseHTTPServer 12345 it's/\n\n  done"),
      (TokenIds{36, 47, 46,  7,   52,  417, 7,  50, 37, 276, 354, 460, 35, 756, 40,  52,  52,
                48, 51, 264, 326, 221, 17,  18, 19, 20, 21,  332, 498, 15, 199, 199, 221, 1256}));
  EXPECT_EQ(tokenizer->encode("She'll pay $1234567.89\t(don't!)"),
            (TokenIds{1862, 7,  292, 1673, 2671, 17, 18, 19,  20,  21, 22,
                      23,   14, 24,  25,   198,  8,  68, 273, 936, 1,  9}));
}

TEST(PreName, IsSmollmForSingleDigitsBeforeByteLevel) {
  auto document = gpt2_tokenizer();
  document["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Digits"}, {"individual_digits", true}}, document["pre_tokenizer"]}}};
  EXPECT_EQ(vocabulary_of(document).pre, "smollm");
}

// o200k's split (GPT-4o, gpt-oss), whether or not ignore_merges is set.
TEST(PreName, IsGpt4oForThreeDigitsAndWordsByCase) {
  for (const bool ignore_merges : {false, true}) {
    auto document = o200k_tokenizer();
    document["model"]["ignore_merges"] = ignore_merges;
    EXPECT_EQ(vocabulary_of(document).pre, "gpt-4o");
  }
}

TEST(PreName, IsRefusedForUnknownSplitsUnlessGiven) {
  auto document = load_json(tokenizer_fixture("bytelevel_llama3") / "tokenizer.json");
  document["model"]["ignore_merges"] = false;
  EXPECT_THAT(error_of([&] { vocabulary_of(document); }),
              StartsWith("E211: tokenizer.json: pre_tokenizer: matches none of the splits"));
  EXPECT_EQ(vocabulary_of(document, "dbrx").pre, "dbrx");
}

TEST(ByteLevelVocabulary, HoldsTokensMergesAndTypes) {
  const Vocabulary vocabulary = load_vocabulary(tokenizer_fixture("smollm2"), 49154);
  EXPECT_EQ(vocabulary.kind, Vocabulary::Kind::kByteLevelBpe);
  ASSERT_EQ(vocabulary.tokens.size(), 49154u);
  EXPECT_TRUE(vocabulary.scores.empty());
  EXPECT_EQ(vocabulary.merges.size(), 48900u);
  EXPECT_EQ(vocabulary.merges[0], "\xC4\xA0 t");
  EXPECT_EQ(vocabulary.types[1], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[19556], TokenType::kNormal);
  EXPECT_EQ(vocabulary.tokens[19556], "Hello");  // golden.json: "Hello world" is 19556 905
  EXPECT_EQ(vocabulary.tokens[49153], "[PAD49153]");
  EXPECT_EQ(vocabulary.types[49153], TokenType::kUnused);
  // tokenizer_config.json names them; tokenizer.json numbers them.
  EXPECT_EQ(vocabulary.special_ids.at("bos"), 1);
  EXPECT_EQ(vocabulary.special_ids.at("eos"), 2);
  EXPECT_EQ(vocabulary.special_ids.at("unknown"), 0);
  EXPECT_EQ(vocabulary.special_ids.at("padding"), 2);
  EXPECT_EQ(vocabulary.add_bos, false);
  EXPECT_THAT(vocabulary.chat_template, HasSubstr("<|im_start|>"));
}

TEST(ByteLevelVocabulary, TakesBosFromTheTemplate) {
  const Vocabulary vocabulary = load_vocabulary(tokenizer_fixture("bytelevel_llama3"), 3002);
  EXPECT_EQ(vocabulary.special_ids.at("bos"), 0);
  EXPECT_EQ(vocabulary.add_bos, true);
  EXPECT_EQ(vocabulary.add_eos, false);
}

TEST(ByteLevelVocabulary, WritesASpaceInsideAMergeAsItsByteCharacter) {
  auto document = gpt2_tokenizer();
  document["model"]["vocab"].erase("!");
  document["model"]["vocab"]["a b"] = 1;
  document["model"]["vocab"]["a ba"] = 3000;
  document["added_tokens"].clear();
  document["model"]["merges"] = nlohmann::json::array({nlohmann::json::array({"a b", "a"})});
  EXPECT_EQ(vocabulary_of(document).merges, std::vector<std::string>{"a\xC4\xA0"
                                                                     "b a"});
}

// An unnormalized added token is stored as the decoder writes it: U+0120 is a space there.
TEST(ByteLevelVocabulary, StoresAddedTokensAsPlainText) {
  auto document = gpt2_tokenizer();
  document["added_tokens"][2]["content"] = "\xC4\xA0x";
  document["added_tokens"][2]["special"] = false;
  const Vocabulary vocabulary = vocabulary_of(document);
  EXPECT_EQ(vocabulary.tokens[3001], " x");
  EXPECT_EQ(vocabulary.types[3001], TokenType::kUserDefined);
}

// Readers merge by score, so the scores must fall with the rank of the merges.
TEST(ByteFallbackVocabulary, ScoresFollowTheMerges) {
  const auto folder = tokenizer_fixture("metaspace_first");
  const Vocabulary vocabulary = load_vocabulary(folder, 1500);
  const auto model = load_json(folder / "tokenizer.json").at("model");
  EXPECT_EQ(vocabulary.kind, Vocabulary::Kind::kSentencePiece);
  EXPECT_EQ(vocabulary.pre, "default");
  EXPECT_EQ(vocabulary.merges.size(), model.at("merges").size());
  EXPECT_EQ(vocabulary.add_space_prefix, true);
  EXPECT_EQ(vocabulary.types[0], TokenType::kUnknown);
  EXPECT_EQ(vocabulary.types[1], TokenType::kControl);
  EXPECT_EQ(vocabulary.types[3], TokenType::kByte);
  const auto merges = model.at("merges");
  for (std::size_t rank : {std::size_t{0}, std::size_t{1}, merges.size() - 1}) {
    const auto whole = merges[rank][0].get<std::string>() + merges[rank][1].get<std::string>();
    EXPECT_EQ(vocabulary.scores[model.at("vocab").at(whole).get<std::size_t>()],
              -static_cast<float>(rank));
  }
  EXPECT_EQ(load_vocabulary(tokenizer_fixture("metaspace_never"), 1500).add_space_prefix, false);
}

TEST(ByteFallbackVocabulary, RefusesModelsWithNeitherBytesNorFallback) {
  EXPECT_THAT(
      error_of([] { load_vocabulary(tokenizer_fixture("components"), 600); }),
      StartsWith("E211: tokenizer.json: model: is neither byte-level nor has byte fallback"));
}

}  // namespace
}  // namespace calque::text
