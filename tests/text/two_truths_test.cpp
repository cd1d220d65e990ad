// Tokenizer files that say one thing twice: src/text/README.md has the table. Expected values are
// what transformers 5.24's AutoTokenizer says of such folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/text/vocabulary.h"
#include "text/support.h"

namespace calque::text {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using TokenType = Vocabulary::TokenType;

constexpr std::int32_t kPiece = 300;  // an ordinary piece of the fixture

json special(std::int32_t id, const std::string& content) {
  return {{"id", id},        {"content", content},  {"special", true},     {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"single_word", false}};
}

// A SentencePiece folder; the files that name single tokens are written by each test.
class Pieces : public ::testing::Test {
 protected:
  Pieces() {
    folder_.copy_from(tokenizer_fixture("gguf_source") / "tokenizer.model");
    const Vocabulary vocabulary = load_vocabulary(folder_.path(), 320);
    piece_ = vocabulary.tokens.at(kPiece);
    for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) ids_[vocabulary.tokens[id]] = id;
  }
  void write(const std::string& name, const json& content) { folder_.write(name, content.dump()); }
  // A tokenizer.json with the pieces of tokenizer.model.
  json tokenizer_json(const json& added) const {
    return {{"model",
             {{"type", "BPE"},
              {"vocab", ids_},
              {"merges", json::array()},
              {"byte_fallback", true},
              {"unk_token", "<unk>"},
              {"fuse_unk", true}}},
            {"added_tokens", added}};
  }
  Vocabulary vocabulary(std::int64_t rows = 320) const {
    return load_vocabulary(folder_.path(), rows);
  }
  // The ids of the piece between letters, with special tokens recognized.
  TokenIds encoded() const {
    return load_tokenizer(folder_.path())->encode("a" + piece_ + "b", true);
  }
  void expect_special() const {
    EXPECT_EQ(vocabulary().types.at(kPiece), TokenType::kControl);
    EXPECT_THAT(encoded(), Contains(kPiece));
  }

  Folder folder_;
  std::string piece_;
  json ids_ = json::object();
};

TEST_F(Pieces, AreSpecialIfAddedTokensDecoderSaysSo) {
  write("tokenizer_config.json",
        {{"added_tokens_decoder", {{std::to_string(kPiece), special(kPiece, piece_)}}}});
  expect_special();
}

TEST_F(Pieces, AreSpecialIfTokenizerJsonSaysSo) {
  write("tokenizer.json", tokenizer_json(json::array({special(kPiece, piece_)})));
  expect_special();
}

TEST_F(Pieces, AreSpecialIfTheSpecialTokensMapSaysSo) {
  write("special_tokens_map.json", {{"additional_special_tokens", {piece_}}});
  expect_special();
}

TEST_F(Pieces, AreSpecialIfExtraSpecialTokensSayso) {
  write("tokenizer_config.json", {{"extra_special_tokens", {piece_}}});
  expect_special();
  write("tokenizer_config.json", {{"extra_special_tokens", {{"image_token", piece_}}}});
  expect_special();
}

TEST_F(Pieces, AreSpecialIfATokenOfTheModelsOwnIsNamed) {
  write("tokenizer_config.json", {{"image_token", {{"content", piece_}}}});
  expect_special();
}

TEST_F(Pieces, AreSpecialIfTheyAreNamedBesideATokenizerJson) {
  write("tokenizer.json", tokenizer_json(json::array()));
  write("tokenizer_config.json", {{"extra_special_tokens", {piece_}}});
  expect_special();
}

TEST_F(Pieces, AreRefusedIfTwoFilesGiveOneIdToTwoTexts) {
  write("tokenizer.json", tokenizer_json(json::array({special(320, "<a>")})));
  write("tokenizer_config.json", {{"added_tokens_decoder", {{"320", special(320, "<b>")}}}});
  EXPECT_THAT(error_of([&] { vocabulary(321); }),
              AllOf(HasSubstr("token 320"), HasSubstr("'<b>' in tokenizer_config.json"),
                    HasSubstr("'<a>' in tokenizer.json")));
}

TEST_F(Pieces, AreRefusedIfTokenizerJsonHasOthers) {
  json other = tokenizer_json(json::array());
  other["model"]["vocab"].erase(piece_);
  other["model"]["vocab"]["other"] = kPiece;
  write("tokenizer.json", other);
  EXPECT_THAT(error_of([&] { vocabulary(); }),
              AllOf(HasSubstr("token 300"), HasSubstr("in tokenizer.model"),
                    HasSubstr("'other' in tokenizer.json")));
}

// A chat fine-tune whose config.json still has the base model's end.
TEST_F(Pieces, EndWithTheTokenizersToken) {
  write("config.json", {{"eos_token_id", 2}, {"pad_token_id", 0}, {"bos_token_id", 1}});
  write("tokenizer_config.json", {{"eos_token", piece_}, {"pad_token", piece_}});
  const Vocabulary got = vocabulary();
  EXPECT_THAT(got.special_ids, Contains(Pair("eos", kPiece)));
  EXPECT_THAT(got.special_ids, Contains(Pair("padding", kPiece)));
  EXPECT_THAT(got.special_ids, Contains(Pair("bos", 1)));
  EXPECT_THAT(got.remarks, ElementsAre(AllOf(HasSubstr("eos_token_id is 2"), HasSubstr("(300, ")),
                                       HasSubstr("pad_token_id is 0")));
}

TEST_F(Pieces, EndWithTheTokenizersTokenAmongThoseOfTheConfig) {
  write("config.json", {{"eos_token_id", {kPiece, 2}}});
  write("tokenizer_config.json", {{"eos_token", "</s>"}});
  const Vocabulary got = vocabulary();
  EXPECT_EQ(got.special_ids.at("eos"), 2);
  EXPECT_THAT(got.remarks, IsEmpty());
}

TEST_F(Pieces, EndWithTheConfigsTokenIfTheTokenizerNamesNone) {
  write("generation_config.json", {{"eos_token_id", {kPiece, 2}}});
  EXPECT_EQ(vocabulary().special_ids.at("eos"), kPiece);
  write("config.json", {{"eos_token_id", 2}});
  EXPECT_EQ(vocabulary().special_ids.at("eos"), 2);
}

TEST_F(Pieces, TakeTheSpecialTokensMapUnlessTheConfigListsTokens) {
  write("tokenizer_config.json", {{"eos_token", "</s>"}});
  write("special_tokens_map.json", {{"eos_token", {{"content", piece_}}}});
  EXPECT_EQ(vocabulary().special_ids.at("eos"), kPiece);
  EXPECT_THAT(vocabulary().remarks,
              ElementsAre(HasSubstr("in special_tokens_map.json and '</s>'")));
  write("tokenizer_config.json",
        {{"eos_token", "</s>"}, {"added_tokens_decoder", {{"2", special(2, "</s>")}}}});
  EXPECT_EQ(vocabulary().special_ids.at("eos"), 2);
  EXPECT_THAT(vocabulary().remarks, ElementsAre(HasSubstr("'</s>' in tokenizer_config.json and")));
}

TEST_F(Pieces, ReportTheTokensThatFillTheEmbedding) {
  EXPECT_THAT(vocabulary(323).remarks,
              ElementsAre(AllOf(HasSubstr("320 tokens and the embedding 323 rows"),
                                HasSubstr("other 3 [PAD320] to [PAD322]"))));
}

TEST(TokenizerJson, NamesItsEndByAnyTokenOfItsVocabulary) {
  const Folder folder;
  folder.copy_from(tokenizer_fixture("bytelevel_qwen2") / "tokenizer.json");
  folder.write("config.json", R"({"eos_token_id": 2})");
  folder.write("tokenizer_config.json", R"({"eos_token": "a", "extra_special_tokens": ["b"]})");
  const Vocabulary got = load_vocabulary(folder.path(), 3002);
  const auto id = static_cast<std::size_t>(got.special_ids.at("eos"));
  EXPECT_EQ(got.tokens.at(id), "a");
  const auto extra = std::find(got.tokens.begin(), got.tokens.end(), "b") - got.tokens.begin();
  EXPECT_EQ(got.types.at(static_cast<std::size_t>(extra)), TokenType::kControl);
}

TEST(TokenizerJson, AddsWhatItsPostProcessorAdds) {
  const Folder folder;
  folder.copy_from(tokenizer_fixture("bytelevel_qwen2") / "tokenizer.json");  // adds nothing
  folder.write("tokenizer_config.json",
               R"({"bos_token": "<|endoftext|>", "add_bos_token": true, "add_eos_token": false})");
  const Vocabulary got = load_vocabulary(folder.path(), 3002);
  EXPECT_EQ(got.add_bos, false);
  EXPECT_EQ(got.add_eos, false);
  EXPECT_THAT(got.remarks, ElementsAre(HasSubstr("add_bos_token is true")));
  EXPECT_THAT(load_tokenizer(folder.path())->prefix(), IsEmpty());
}

// ---- Chat templates

class Templates : public ::testing::Test {
 protected:
  Templates() { folder_.copy_from(tokenizer_fixture("gguf_source") / "tokenizer.model"); }
  void config(const json& chat_template) {
    folder_.write("tokenizer_config.json", json{{"chat_template", chat_template}}.dump());
  }
  Vocabulary vocabulary() const { return load_vocabulary(folder_.path(), 320); }
  Folder folder_;
};

TEST_F(Templates, OfAListKeepTheirNames) {
  config({{{"name", "tool_use"}, {"template", "T"}}, {{"name", "default"}, {"template", "D"}}});
  EXPECT_EQ(vocabulary().chat_template, "D");
  EXPECT_THAT(vocabulary().named_templates, ElementsAre(Pair("tool_use", "T")));
  EXPECT_THAT(vocabulary().remarks, IsEmpty());
}

TEST_F(Templates, WithoutADefaultAreKeptAndRemarked) {
  config({{{"name", "tool use"}, {"template", "T"}}});
  EXPECT_EQ(vocabulary().chat_template, "");
  EXPECT_THAT(vocabulary().named_templates, ElementsAre(Pair("tool_use", "T")));
  EXPECT_THAT(vocabulary().remarks,
              ElementsAre(HasSubstr("no chat template is named \"default\"")));
}

TEST_F(Templates, OfFilesReplaceThoseOfTheConfig) {
  config("stale");
  folder_.write("chat_template.jinja", "a\r\nb");
  std::filesystem::create_directory(folder_.path() / "additional_chat_templates");
  folder_.write("additional_chat_templates/tool_use.jinja", "T");
  EXPECT_EQ(vocabulary().chat_template, "a\r\nb");
  EXPECT_THAT(vocabulary().named_templates, ElementsAre(Pair("tool_use", "T")));
  EXPECT_THAT(vocabulary().remarks, ElementsAre(HasSubstr("'default' of tokenizer_config.json")));
  config("a\nb");  // the same but for its line ends
  EXPECT_THAT(vocabulary().remarks, IsEmpty());
}

TEST_F(Templates, OfChatTemplateJsonAreReadLast) {
  folder_.write("chat_template.json", R"({"chat_template": "J"})");
  EXPECT_EQ(vocabulary().chat_template, "J");
  config("C");
  EXPECT_EQ(vocabulary().chat_template, "C");
}

// ---- Files that are not what their name says

TEST(TokenizerModel, OfTiktokenIsPassedOverForTokenizerJson) {
  const Folder folder;
  folder.write("tokenizer.model", "IQ== 0\nIg== 1\n");
  EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
              AllOf(HasSubstr("E211"), HasSubstr("tiktoken"), HasSubstr("tokenizer.json")));
  EXPECT_THAT(error_of([&] { load_vocabulary(folder.path(), 3002); }), HasSubstr("tiktoken"));
  folder.copy_from(tokenizer_fixture("bytelevel_qwen2") / "tokenizer.json");
  EXPECT_EQ(load_vocabulary(folder.path(), 3002).kind, Vocabulary::Kind::kByteLevelBpe);
  EXPECT_EQ(load_tokenizer(folder.path())->vocab_size(), 3002);
}

TEST(TokenizerModel, IsRefusedIfItsLinkLeadsNowhere) {
  const Folder folder;
  folder.copy_from(tokenizer_fixture("bytelevel_qwen2") / "tokenizer.json");
  std::filesystem::create_symlink("../blobs/none", folder.path() / "tokenizer.model");
  EXPECT_THAT(error_of([&] { load_vocabulary(folder.path(), 3002); }),
              HasSubstr("tokenizer.model: a link to ../blobs/none, which is not there"));
  EXPECT_THAT(error_of([&] { has_tokenizer(folder.path()); }), HasSubstr("which is not there"));
}

TEST(TokenizerModel, IsRefusedIfItIsAGitLfsPointer) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"}) {
    const Folder folder;
    folder.write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    EXPECT_THAT(error_of([&] { load_tokenizer(folder.path()); }),
                AllOf(HasSubstr(name), HasSubstr("git-lfs pointer")));
  }
}

}  // namespace
}  // namespace calque::text
