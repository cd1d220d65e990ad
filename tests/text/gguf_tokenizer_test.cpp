// Tokenizers inside GGUF files: the ids of the folders that they were made from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/gguf.h"
#include "calque/io/text_lines.h"
#include "calque/text/vocabulary.h"
#include "support/paths.h"
#include "text/support.h"

namespace calque::text {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Scalar = io::GgufValue::Scalar;
using Array = io::GgufValue::Array;
using TokenType = Vocabulary::TokenType;

const std::filesystem::path kGolden =
    std::filesystem::path(test::fixtures()) / "artifacts" / "gguf";

std::vector<std::int32_t> numbers_of(const std::vector<TokenType>& types) {
  std::vector<std::int32_t> numbers;
  for (const TokenType type : types) numbers.push_back(static_cast<std::int32_t>(type));
  return numbers;
}

// The tokenizer's keys (src/formats/README.md, "Tokenizer").
io::GgufMetadata keys_of(const Vocabulary& vocabulary) {
  const bool pieces = vocabulary.kind == Vocabulary::Kind::kSentencePiece;
  io::GgufMetadata keys = {{"general.architecture", Scalar(std::string("llama"))},
                           {"tokenizer.ggml.model", Scalar(std::string(pieces ? "llama" : "gpt2"))},
                           {"tokenizer.ggml.pre", Scalar(vocabulary.pre)},
                           {"tokenizer.ggml.tokens", Array(vocabulary.tokens)},
                           {"tokenizer.ggml.token_type", Array(numbers_of(vocabulary.types))}};
  if (pieces) keys.emplace_back("tokenizer.ggml.scores", Array(vocabulary.scores));
  if (!pieces) keys.emplace_back("tokenizer.ggml.merges", Array(vocabulary.merges));
  for (const auto& [name, id] : vocabulary.special_ids)
    keys.emplace_back("tokenizer.ggml." + name + "_token_id",
                      Scalar(static_cast<std::uint32_t>(id)));
  const auto flag = [&keys](const char* key, std::optional<bool> value) {
    if (value) keys.emplace_back(key, Scalar(*value));
  };
  flag("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
  flag("tokenizer.ggml.add_eos_token", vocabulary.add_eos);
  flag("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
  return keys;
}

// A file without tensors.
std::filesystem::path write_gguf(const Folder& folder, const io::GgufMetadata& keys) {
  const std::filesystem::path path = folder.path() / "model.gguf";
  io::GgufWriter(path, keys, {}).finish();
  return path;
}

std::filesystem::path write_gguf(const Folder& folder, const Vocabulary& vocabulary) {
  return write_gguf(folder, keys_of(vocabulary));
}

void replace(io::GgufMetadata& keys, const std::string& name, io::GgufValue value) {
  std::erase_if(keys, [&name](const auto& key) { return key.first == name; });
  keys.emplace_back(name, std::move(value));
}

void remove(io::GgufMetadata& keys, const std::string& name) {
  std::erase_if(keys, [&name](const auto& key) { return key.first == name; });
}

class GgufTokenizers : public ::testing::TestWithParam<std::string> {
 protected:
  GgufTokenizers() : fixture_(tokenizer_fixture(GetParam())), original_(load_tokenizer(fixture_)) {
    // 30 rows of the embedding more than tokens.
    const Vocabulary vocabulary = load_vocabulary(fixture_, original_->vocab_size() + 30);
    tokenizer_ = load_tokenizer(write_gguf(folder_, vocabulary));
  }

  std::vector<std::string> texts() const {
    std::vector<std::string> texts;
    const auto golden = load_json(fixture_ / "golden.json");
    for (const auto& test : golden.at("cases")) texts.push_back(test.at("text").get<std::string>());
    return texts;
  }

  Folder folder_;
  std::filesystem::path fixture_;
  std::unique_ptr<Tokenizer> original_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

// Metaspace puts no space before a text that begins with one. Readers of GGUF always do, because
// the key add_space_prefix cannot express more.
bool is_told_apart(const std::string& fixture, const std::string& text) {
  const bool metaspace = fixture == "metaspace_always" || fixture == "metaspace_first";
  return metaspace && text.starts_with(' ');
}

// Special tokens stay text: a folder and a GGUF file agree on the tokens to search for only if the
// folder lists them.
TEST_P(GgufTokenizers, GiveTheIdsOfTheFolder) {
  ASSERT_EQ(texts().size(), 36u);
  for (const std::string& text : texts()) {
    const TokenIds ids = tokenizer_->encode(text, false);
    if (is_told_apart(GetParam(), text))
      EXPECT_EQ(ids.size(), original_->encode(text, false).size() + 1) << text;
    else
      EXPECT_EQ(ids, original_->encode(text, false)) << text;
  }
}

TEST_P(GgufTokenizers, GiveTheIdsOfTheFolderOnProse) {
  const std::string prose = io::read_text(std::filesystem::path(test::calibration_data()) /
                                          "heldout_pride_and_prejudice.txt");
  EXPECT_EQ(tokenizer_->encode(prose, false), original_->encode(prose, false));
}

TEST_P(GgufTokenizers, PutTheSameTokensAround) {
  EXPECT_EQ(tokenizer_->prefix(), original_->prefix());
  EXPECT_EQ(tokenizer_->suffix(), original_->suffix());
}

TEST_P(GgufTokenizers, HaveTheSameTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), original_->vocab_size());
  for (const std::int32_t id : {0, 1, 300, 1000})
    EXPECT_EQ(tokenizer_->token(id), original_->token(id));
}

INSTANTIATE_TEST_SUITE_P(All, GgufTokenizers,
                         ::testing::Values("bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2",
                                           "bytelevel_tekken", "metaspace_always",
                                           "metaspace_first", "metaspace_never",
                                           "sentencepiece_bpe", "smollm2"));

class ByteLevelGgufTokenizers : public GgufTokenizers {};

TEST_P(ByteLevelGgufTokenizers, FindTheSameSpecialTokens) {
  for (const std::string& text : texts())
    EXPECT_EQ(tokenizer_->encode(text), original_->encode(text)) << text;
}

INSTANTIATE_TEST_SUITE_P(All, ByteLevelGgufTokenizers,
                         ::testing::Values("bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2",
                                           "bytelevel_tekken", "smollm2"));

// Converters give all its pieces one score, so the merges alone say what is joined first.
TEST(GgufTokenizer, JoinsPiecesOfGemma4ByTheirMerges) {
  const auto fixture = tokenizer_fixture("metaspace_never");
  const auto original = load_tokenizer(fixture);
  const Vocabulary vocabulary = load_vocabulary(fixture, original->vocab_size());
  io::GgufMetadata keys = keys_of(vocabulary);
  replace(keys, "tokenizer.ggml.model", Scalar(std::string("gemma4")));
  replace(keys, "tokenizer.ggml.scores",
          Array(std::vector<float>(vocabulary.tokens.size(), -1000.0f)));
  keys.emplace_back("tokenizer.ggml.merges", Array(vocabulary.merges));
  remove(keys, "tokenizer.ggml.pre");
  const Folder folder;
  const auto tokenizer = load_tokenizer(write_gguf(folder, keys));
  const auto golden = load_json(fixture / "golden.json");
  for (const auto& test : golden.at("cases")) {
    const auto text = test.at("text").get<std::string>();
    EXPECT_EQ(tokenizer->encode(text, false), original->encode(text, false)) << text;
  }
  remove(keys, "tokenizer.ggml.merges");
  const auto path = write_gguf(folder, keys);
  EXPECT_THAT(error_of([&] { load_tokenizer(path); }),
              HasSubstr("'tokenizer.ggml.merges' is missing"));
}

// A file of llama.cpp's converter, and what llama-tokenize says of a text.
TEST(GgufTokenizer, GivesTheIdsOfLlamaCpp) {
  const auto tokenizer = load_tokenizer(kGolden / "tiny-f16.gguf");
  TokenIds ids = tokenizer->prefix();
  const TokenIds body = tokenizer->encode(io::read_text(kGolden / "imatrix_text.txt"), false);
  ids.insert(ids.end(), body.begin(), body.end());
  EXPECT_EQ(ids.size(), 9950u);
  const TokenIds first(ids.begin(), ids.begin() + 8);
  EXPECT_EQ(first, (TokenIds{1, 273, 311, 277, 287, 287, 286, 278}));
  EXPECT_THAT(tokenizer->description(), StartsWith("tiny-f16.gguf: SentencePiece BPE, 320 tokens"));
}

TEST(GgufTokenizer, CutsOutControlTokensOnlyWhenAsked) {
  const auto tokenizer = load_tokenizer(kGolden / "tiny-f16.gguf");
  EXPECT_EQ(tokenizer->encode("</s>"), (TokenIds{2}));
  EXPECT_NE(tokenizer->encode("</s>", false), (TokenIds{2}));
  EXPECT_EQ(tokenizer->id_of("</s>"), 2);
}

// Both kinds of user-defined tokens: one that the model itself knows keeps the text around it
// whole; one that was added (score -1000) is cut out, and a space goes before what follows it.
TEST(GgufTokenizer, TellsAddedTokensFromTheModelsOwn) {
  Vocabulary vocabulary = load_vocabulary(kGolden / "tiny-f16.gguf", 321);
  vocabulary.tokens[320] = "<go>";
  vocabulary.types[320] = TokenType::kUserDefined;
  const auto ids_with_score = [&vocabulary](float score) {
    vocabulary.scores[320] = score;
    const Folder folder;
    return load_tokenizer(write_gguf(folder, vocabulary))->encode("<go>e");
  };
  const auto plain = load_tokenizer(kGolden / "tiny-f16.gguf");
  TokenIds after = plain->encode("e");
  after.insert(after.begin(), 320);
  EXPECT_EQ(ids_with_score(-1000.0f), after);
  const TokenIds own = ids_with_score(0.0f);
  EXPECT_NE(own, after);
  EXPECT_EQ(std::count(own.begin(), own.end(), 320), 1);
}

// Digits one by one before the split of gpt-2.
TEST(GgufTokenizer, KnowsSmollmsDigits) {
  const auto fixture = tokenizer_fixture("bytelevel_gpt2");
  auto document = load_json(fixture / "tokenizer.json");
  const auto byte_level = document["pre_tokenizer"];
  document["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level}}};
  const Folder folder;
  const auto tokenizer =
      load_tokenizer(write_gguf(folder, load_vocabulary(fixture, 3010, "smollm")));
  const std::string text = "In 1874 the 12 cows' 3.14159 bells";
  EXPECT_EQ(tokenizer->encode(text), load_from_json(document)->encode(text));
  EXPECT_NE(tokenizer->encode(text), load_tokenizer(fixture)->encode(text));
}

// llama.cpp's defaults without a key: BOS for SentencePiece and llama-bpe, none for qwen2.
TEST(GgufTokenizer, HasLlamaCppsDefaults) {
  const auto prefix_of = [](const char* fixture) {
    const auto folder = tokenizer_fixture(fixture);
    Vocabulary vocabulary = load_vocabulary(folder, load_tokenizer(folder)->vocab_size());
    vocabulary.add_bos.reset();
    vocabulary.special_ids["bos"] = 1;
    const Folder out;
    return load_tokenizer(write_gguf(out, vocabulary))->prefix();
  };
  EXPECT_EQ(prefix_of("sentencepiece_bpe"), (TokenIds{1}));
  EXPECT_EQ(prefix_of("bytelevel_llama3"), (TokenIds{1}));
  EXPECT_EQ(prefix_of("bytelevel_qwen2"), TokenIds());
}

TEST(GgufVocabulary, IsWhatWasWritten) {
  const auto fixture = tokenizer_fixture("smollm2");
  const Vocabulary written = load_vocabulary(fixture, 49152);
  const Folder folder;
  const Vocabulary read = load_vocabulary(write_gguf(folder, written), 49160);
  EXPECT_EQ(read.kind, written.kind);
  EXPECT_EQ(read.pre, "gpt-2");
  EXPECT_EQ(read.merges, written.merges);
  EXPECT_EQ(read.special_ids, written.special_ids);
  EXPECT_EQ(read.add_bos, written.add_bos);
  ASSERT_EQ(read.tokens.size(), 49160u);
  EXPECT_EQ(read.tokens[49159], "[PAD49159]");
  EXPECT_TRUE(std::equal(written.tokens.begin(), written.tokens.end(), read.tokens.begin()));
  EXPECT_TRUE(std::equal(written.types.begin(), written.types.end(), read.types.begin()));
}

class BadGgufTokenizer : public ::testing::Test {
 protected:
  io::GgufMetadata keys_ = keys_of(load_vocabulary(kGolden / "tiny-f16.gguf", 320));

  std::string error() const {
    const Folder folder;
    const std::filesystem::path path = write_gguf(folder, keys_);
    return error_of([&path] { load_tokenizer(path); });
  }
};

TEST_F(BadGgufTokenizer, IsReadUnchanged) { EXPECT_EQ(error(), ""); }

TEST_F(BadGgufTokenizer, IsRefusedWithoutOne) {
  replace(keys_, "tokenizer.ggml.model", Scalar(std::string("none")));
  EXPECT_THAT(error(), HasSubstr("the file holds no tokenizer"));
  const Folder folder;
  EXPECT_FALSE(has_tokenizer(write_gguf(folder, keys_)));
  EXPECT_TRUE(has_tokenizer(kGolden / "tiny-f16.gguf"));
}

TEST_F(BadGgufTokenizer, IsRefusedOfAnUnknownKind) {
  replace(keys_, "tokenizer.ggml.model", Scalar(std::string("t5")));
  EXPECT_THAT(error(), StartsWith("E211: "));
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.model 't5' is not implemented"));
}

TEST_F(BadGgufTokenizer, IsRefusedWithAnUnknownPreTokenizer) {
  const auto folder = tokenizer_fixture("bytelevel_gpt2");
  keys_ = keys_of(load_vocabulary(folder, load_tokenizer(folder)->vocab_size(), "falcon"));
  EXPECT_THAT(error(), StartsWith("E211: "));
  EXPECT_THAT(error(), HasSubstr("tokenizer.ggml.pre 'falcon' is not implemented"));
}

TEST_F(BadGgufTokenizer, IsRefusedWithListsOfOtherLengths) {
  replace(keys_, "tokenizer.ggml.scores", Array(std::vector<float>(319)));
  EXPECT_THAT(error(), HasSubstr("'tokenizer.ggml.scores' has 319 entries for 320 tokens"));
}

TEST_F(BadGgufTokenizer, IsRefusedWithoutItsLists) {
  remove(keys_, "tokenizer.ggml.scores");
  EXPECT_THAT(error(), HasSubstr("'tokenizer.ggml.scores' is missing"));
  replace(keys_, "tokenizer.ggml.tokens", Array(std::vector<float>(320)));
  EXPECT_THAT(error(), HasSubstr("'tokenizer.ggml.tokens' is not a list of the right type"));
}

TEST_F(BadGgufTokenizer, IsRefusedWithTypesThatThereAreNot) {
  std::vector<std::int32_t> types(320, 1);
  types[7] = 9;
  replace(keys_, "tokenizer.ggml.token_type", Array(types));
  EXPECT_THAT(error(), HasSubstr("token 7 is of type 9, expected 1 to 6"));
  replace(keys_, "tokenizer.ggml.token_type", Array(std::vector<std::int32_t>(320, 1)));
  EXPECT_THAT(error(), HasSubstr("needs exactly one unknown token"));
}

TEST_F(BadGgufTokenizer, IsRefusedWithScoresThatAreNoNumbers) {
  std::vector<float> scores(320);
  scores[5] = std::numeric_limits<float>::quiet_NaN();
  replace(keys_, "tokenizer.ggml.scores", Array(scores));
  EXPECT_THAT(error(), HasSubstr("token 5 has the score nan"));
}

TEST_F(BadGgufTokenizer, IsRefusedIfItIsNoGguf) {
  const Folder folder;
  const auto path = folder.write("model.gguf", "no tokens in here, and no header");
  EXPECT_THAT(error_of([&path] { load_tokenizer(path); }), HasSubstr("model.gguf"));
}

}  // namespace
}  // namespace calque::text
