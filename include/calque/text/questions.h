#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "calque/io/json.h"
#include "calque/text/corpus.h"
#include "calque/text/tokenizer.h"

// Questions with right answers: the lines of a task file.

namespace calque::text {

struct Question {
  std::string text;                  // "" where messages ask
  io::Json messages;                 // null, or a list of messages, the last of which asks
  std::vector<std::string> choices;  // empty: the answer is written by the model
  std::size_t right_choice = 0;
  std::vector<std::string> answers;  // without choices: any of these is right
  std::int64_t line = 0;

  bool has_choices() const { return !choices.empty(); }
};

struct Questions {
  std::string file;    // file name only
  std::string sha256;  // hash of the file's bytes
  std::vector<Question> items;

  bool have_choices() const { return items.front().has_choices(); }
  double chance() const;  // mean of 1 / number of choices; 0 without choices
};

// Reads a .jsonl file (also .gz, .zst), one question a line:
//   {"question": "2 + 2 =", "choices": ["3", "4"], "answer": 1}   answer: an index, or the choice
//   {"question": "2 + 2 =", "answer": "4"}                        or a list of right answers
// `question` may be a list of messages; `id` is allowed and not read. Takes the first `limit`
// questions (0: all). Error(kInput, "E219") naming file and line for anything else: other keys,
// fewer than two choices, empty or equal ones, an answer that is none of them, lines with choices
// among lines without, and a file without questions.
Questions read_questions(const std::filesystem::path& path, std::int64_t limit = 0);

// The form of the text that a question becomes.
struct QuestionFormat {
  std::string before;  // in front of every question: instructions, examples
  bool chat_template = false;
  ChatSettings chat;
  // Between question and choice. A chat template ends where the answer begins, so that nothing is
  // put there then (as lm-evaluation-harness does).
  std::string delimiter = " ";
};

// The texts that come before the answers. With a chat template a question is the user's message and
// the template of `model` is asked for the beginning of the answer. Error(kInput, "E217") without a
// template, "E219" for messages where the format has none.
std::vector<std::string> contexts_of(const Questions& questions, const QuestionFormat& format,
                                     const std::filesystem::path& model);

// White space at the end of a context belongs to the tokens of what follows.
struct ContextAndContinuation {
  TokenIds context;
  TokenIds continuation;
};

// Tokens of a context and of what may follow it, cut as lm-evaluation-harness cuts them: white
// space at the end of the context moves to the continuation; context and both together are
// tokenized; the tokens of both beyond the number of the context's are the continuation. Both begin
// with `prefix` unless the text has it already. An empty context is `prefix`, or else `otherwise`
// (that harness: BOS, or EOS).
ContextAndContinuation encode_pair(const Tokenizer& tokenizer, const TokenIds& prefix,
                                   const TokenIds& otherwise, const std::string& context,
                                   const std::string& continuation);

// Tokens of a text after `prefix`, which is not put twice.
TokenIds encode_after(const Tokenizer& tokenizer, const TokenIds& prefix, const std::string& text);

// Number of characters (code points).
std::size_t character_count(std::string_view text);
// Without white space at both ends.
std::string trimmed(std::string_view text);

}  // namespace calque::text
