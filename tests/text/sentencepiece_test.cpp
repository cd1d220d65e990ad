#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/paths.h"
#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::HasSubstr;

std::string model_bytes() {
  std::ifstream file(tokenizer_fixture("sentencepiece_bpe") / "tokenizer.model", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::unique_ptr<Tokenizer> with_config(const nlohmann::json& config) {
  const Folder folder;
  folder.write("tokenizer.model", model_bytes());
  folder.write("tokenizer_config.json", config.dump());
  return load_tokenizer(folder.path());
}

// Expected: the Python LlamaTokenizer of transformers 4.46.3.
TEST(SentencePiece, SplitsAtAddedTokensAsTransformersDoes) {
  const auto settings =
      load_json(tokenizer_fixture("sentencepiece_bpe") / "around_added_tokens.json");
  ASSERT_EQ(settings.size(), 3u);
  for (const auto& setting : settings) {
    const auto tokenizer = with_config(setting.at("config"));
    for (const auto& test : setting.at("cases"))
      EXPECT_EQ(tokenizer->encode(test.at("text").get<std::string>()),
                test.at("ids").get<TokenIds>())
          << test.at("text") << setting.at("config");
  }
}

TEST(SentencePiece, TakesSpecialTokensAsTextWhenAsked) {
  const auto tokenizer = load_tokenizer(test::demo_model());
  EXPECT_EQ(tokenizer->encode("<s>", true), TokenIds{1});
  // From golden.json, whose ids SentencePiece itself gave.
  const TokenIds as_text{3993, 63, 4000, 4094};
  const TokenIds ids = tokenizer->encode("<s>not special</s> <unk>", false);
  EXPECT_EQ(TokenIds(ids.begin(), ids.begin() + 4), as_text);
}

TEST(SentencePiece, PutsBosInFrontUnlessTheConfigSaysNo) {
  EXPECT_EQ(with_config({})->prefix(), TokenIds{1});
  EXPECT_EQ(with_config({})->suffix(), TokenIds{});
  EXPECT_EQ(with_config({{"add_bos_token", false}})->prefix(), TokenIds{});
  EXPECT_EQ(with_config({{"add_eos_token", true}})->suffix(), TokenIds{2});
  EXPECT_EQ(with_config({{"bos_token", {{"content", "</s>"}}}})->prefix(), TokenIds{2});
}

TEST(SentencePiece, KnowsItsVocabulary) {
  const auto tokenizer = load_tokenizer(tokenizer_fixture("sentencepiece_bpe"));
  EXPECT_EQ(tokenizer->vocab_size(), 4096);
  EXPECT_EQ(tokenizer->id_of("</s>"), 2);
  EXPECT_EQ(tokenizer->id_of("no such piece"), std::nullopt);
  EXPECT_EQ(tokenizer->token(3), "<0x00>");
  EXPECT_EQ(tokenizer->token(4096), "");
  EXPECT_EQ(tokenizer->token(-1), "");
  EXPECT_EQ(tokenizer->description(), "tokenizer.model: SentencePiece BPE, 4096 tokens");
}

TEST(SentencePiece, RefusesABosThatIsNotInTheVocabulary) {
  EXPECT_THAT(error_of([] {
                with_config({{"add_bos_token", true}, {"bos_token", "<start>"}});
              }),
              HasSubstr("add_bos_token: is true, but the vocabulary has no such token"));
}

TEST(SentencePiece, RefusesDamagedModelsWithoutCrashing) {
  const std::string good = model_bytes();
  const Folder folder;
  folder.write("tokenizer.model", good.substr(0, good.size() - 1000));
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
              HasSubstr("not a SentencePiece model"));
  folder.write("tokenizer.model", "");
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }), HasSubstr("no pieces"));
  // A length of 2^63 bytes.
  folder.write("tokenizer.model", "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F");
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
              HasSubstr("bytes where 0 are left"));
}

TEST(SentencePiece, RefusesIdsThatAreNoNumbers) {
  const nlohmann::json config = {{"added_tokens_decoder", {{"12x", {{"content", "<a>"}}}}}};
  EXPECT_THAT(error_of([&] { with_config(config); }), HasSubstr("'12x' is not a token id"));
}

TEST(LoadTokenizer, SaysWhatIsMissing) {
  const Folder folder;
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
              HasSubstr("has neither tokenizer.json nor tokenizer.model"));
}

}  // namespace
}  // namespace calque::text
