#include "calque/text/questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "byte_tokenizer.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class QuestionFile : public ::testing::Test {
 protected:
  Questions read(const std::string& lines, std::int64_t limit = 0) const {
    io::write_file(folder.path() / "q.jsonl", lines);
    return read_questions(folder.path() / "q.jsonl", limit);
  }
  std::string refusal(const std::string& lines) const {
    try {
      read(lines);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "E219");
      return error.what();
    }
    return "nothing was thrown";
  }

  testing::TempFolder folder;
};

const std::string kChoice = R"({"question": "2 + 2 =", "choices": ["3", "4"], "answer": 1})"
                            "\n";
const std::string kWords = R"({"question": "2 + 2 =", "answer": ["4", "four"], "id": 7})"
                           "\n";

TEST_F(QuestionFile, HasAQuestionALine) {
  const Questions questions = read(
      kChoice + "\n" + R"({"question": "3", "choices": ["a", "b", "c"], "answer": "c"})" + "\n");
  ASSERT_EQ(questions.items.size(), 2u);
  EXPECT_THAT(questions.items[0].choices, ElementsAre("3", "4"));
  EXPECT_EQ(questions.items[0].right_choice, 1u);
  EXPECT_EQ(questions.items[1].right_choice, 2u);
  EXPECT_EQ(questions.items[1].line, 3);
  EXPECT_DOUBLE_EQ(questions.chance(), (1.0 / 2 + 1.0 / 3) / 2);
  EXPECT_EQ(read(kChoice + kChoice + "not read", 2).items.size(), 2u);
}

TEST_F(QuestionFile, TakesSeveralRightAnswers) {
  const Questions questions = read(kWords);
  EXPECT_THAT(questions.items[0].answers, ElementsAre("4", "four"));
  EXPECT_EQ(questions.chance(), 0);
}

TEST_F(QuestionFile, RefusesWhatIsNoQuestionWithFileAndLine) {
  EXPECT_THAT(refusal(kChoice + "{\"question\""), HasSubstr("q.jsonl:2: "));
  EXPECT_THAT(refusal("[1]"), HasSubstr("holds array, not an object such as {\"question\""));
  EXPECT_THAT(refusal(R"({"question": "a", "answer": "b", "solution": "c"})"),
              HasSubstr("q.jsonl:1: the key 'solution' is unknown"));
  EXPECT_THAT(refusal(R"({"choices": ["a", "b"], "answer": 0})"), HasSubstr("no key 'question'"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b"], "answer": 0})"),
              HasSubstr("choices is a list of 1, not a list of two or more"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b", ""], "answer": 0})"),
              HasSubstr("choice 1 is empty"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b", "c", "b"], "answer": 0})"),
              HasSubstr("choices 0 and 2 are equal: 'b'"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b", "c"], "answer": 2})"),
              HasSubstr("answer is 2, but choices are counted from 0 to 1"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b", "c"], "answer": "d"})"),
              HasSubstr("the answer 'd' is none of the choices"));
  EXPECT_THAT(refusal(R"({"question": "a", "choices": ["b", "c"]})"), HasSubstr("no key 'answer'"));
  EXPECT_THAT(refusal(R"({"question": "a", "answer": 4})"), HasSubstr("put numbers in quotes"));
  EXPECT_THAT(refusal(kChoice + kWords),
              HasSubstr("q.jsonl:2: has no choices, but line 1 has some"));
  EXPECT_THAT(refusal("\n"), HasSubstr("holds no question"));
}

TEST_F(QuestionFile, MessagesNeedATemplate) {
  const Questions questions =
      read(R"({"question": [{"role": "user", "content": "2 + 2?"}], "answer": "4"})");
  EXPECT_THROW(contexts_of(questions, {}, ""), Error);
  io::write_file(folder.path() / "model" / "tokenizer_config.json", R"({"eos_token": "$"})");
  io::write_file(folder.path() / "model" / "chat_template.jinja",
                 "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
                 "{% if add_generation_prompt %}<assistant>{% endif %}");
  QuestionFormat format{.before = "Count. ", .chat_template = true, .chat = {}};
  EXPECT_THAT(contexts_of(questions, format, folder.path() / "model"),
              ElementsAre("<user>2 + 2?$<assistant>"));
  EXPECT_THAT(contexts_of(read(kWords), format, folder.path() / "model"),
              ElementsAre("<user>Count. 2 + 2 =$<assistant>"));
  format.chat_template = false;
  EXPECT_THAT(contexts_of(read(kWords), format, ""), ElementsAre("Count. 2 + 2 ="));
}

TEST(EncodePair, MovesWhiteSpaceToTheContinuation) {
  const ByteTokenizer bytes;
  const auto pair = encode_pair(bytes, bytes.prefix(), {}, "a \n", "b");
  EXPECT_THAT(pair.context, ElementsAre('^', 'a'));
  EXPECT_THAT(pair.continuation, ElementsAre(' ', '\n', 'b'));
}

TEST(EncodePair, PutsThePrefixOnce) {
  const ByteTokenizer bytes;
  EXPECT_THAT(encode_pair(bytes, bytes.prefix(), {}, "^a", "b").context, ElementsAre('^', 'a'));
  EXPECT_THAT(encode_pair(bytes, {}, {'$'}, "a", "b").context, ElementsAre('a'));
  EXPECT_THAT(encode_pair(bytes, {}, {'$'}, "", " b").context, ElementsAre('$'));
  EXPECT_THAT(encode_pair(bytes, {}, {'$'}, "", " b").continuation, ElementsAre(' ', 'b'));
}

TEST(Trimmed, KnowsUnicodesSpaces) { EXPECT_EQ(trimmed("\xC2\xA0 a b\n"), "a b"); }

// A text comes back from its tokens, but for a space in front that some tokenizers put there.
TEST(Decode, GivesTheTextBack) {
  const std::filesystem::path fixtures(test::fixtures());
  const std::string text = "Caf\xC3\xA9, \xE8\x8C\xB6 \xF0\x9F\x98\x80!\n  3 + 4 = 7\ttab";
  for (const std::filesystem::path& model :
       {std::filesystem::path(test::demo_model()), fixtures / "artifacts/gguf/tiny-f16.gguf"}) {
    const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(model);
    TokenIds ids = tokenizer->encode(text);
    const TokenIds prefix = tokenizer->prefix();
    ids.insert(ids.begin(), prefix.begin(), prefix.end());  // special tokens are no text
    EXPECT_EQ(trimmed(tokenizer->decode(ids)), text) << model;
  }
}

TEST(EndTokens, AreThoseOfAllFiles) {
  const testing::TempFolder folder;
  io::write_file(folder.path() / "config.json", R"({"eos_token_id": 5})");
  io::write_file(folder.path() / "generation_config.json", R"({"eos_token_id": [7, 3]})");
  io::write_file(folder.path() / "tokenizer_config.json", R"({"eos_token": "$"})");
  EXPECT_THAT(end_tokens(folder.path(), ByteTokenizer()), ElementsAre(3, 5, 7, '$'));
}

}  // namespace
}  // namespace calque::text
