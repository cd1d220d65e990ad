#include "calque/text/questions.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/sha256.h"
#include "calque/io/text_lines.h"
#include "text/conversations.h"
#include "text/unicode.h"

namespace calque::text {
namespace {

using io::Json;

[[noreturn]] void refuse_line(const std::string& place, const std::string& reason) {
  throw Error(ErrorKind::kInput, "E219", fmt::format("{}: {}", place, reason));
}

// ---- A line

constexpr std::array<std::string_view, 4> kKeys = {"id", "question", "choices", "answer"};

constexpr const char* kForms =
    R"({"question": "2 + 2 =", "choices": ["3", "4"], "answer": 1} or {"question": "2 + 2 =", "answer": "4"})";

class Line {
 public:
  Line(const Json& json, const std::string& place) : json_(json), place_(place) {}

  Question question(std::int64_t number) const {
    if (!json_.is_object())
      refuse_line(place_,
                  fmt::format("holds {}, not an object such as {}", json_.type_name(), kForms));
    for (const Json::Member& member : json_.members())
      if (std::ranges::find(kKeys, member.name) == kKeys.end())
        refuse_line(place_,
                    fmt::format("the key {} is unknown; keys of a question: question, choices, "
                                "answer, id",
                                quote_name(member.name)));
    Question question;
    question.line = number;
    read_question(question);
    if (json_.contains("choices")) {
      read_choices(question);
      question.right_choice = right_choice(question.choices);
    } else {
      read_answers(question);
    }
    return question;
  }

 private:
  const Json& at(const char* key) const {
    if (const Json* found = json_.find(key)) return *found;
    refuse_line(place_, fmt::format("has no key '{}'; a line is {}", key, kForms));
  }

  void read_question(Question& question) const {
    const Json& asked = at("question");
    if (asked.is_array() && !asked.empty())
      question.messages = asked;
    else if (asked.is_string())
      question.text = asked.string();
    else
      refuse_line(place_, fmt::format("question is {}, not text or a list of messages",
                                      asked.is_array() ? "an empty list" : asked.type_name()));
  }

  void read_choices(Question& question) const {
    const Json& choices = at("choices");
    if (!choices.is_array() || choices.size() < 2)
      refuse_line(place_,
                  fmt::format("choices is {}, not a list of two or more texts",
                              choices.is_array() ? fmt::format("a list of {}", choices.size())
                                                 : std::string(choices.type_name())));
    for (const Json& choice : choices.elements()) {
      const std::size_t index = question.choices.size();
      if (!choice.is_string())
        refuse_line(place_, fmt::format("choice {} is {}, not text; put it in quotes", index,
                                        choice.type_name()));
      if (choice.string().empty()) refuse_line(place_, fmt::format("choice {} is empty", index));
      const auto twin = std::ranges::find(question.choices, choice.string());
      if (twin != question.choices.end())
        refuse_line(place_,
                    fmt::format("choices {} and {} are equal: {}", twin - question.choices.begin(),
                                index, quote_name(choice.string())));
      question.choices.push_back(choice.string());
    }
  }

  std::size_t right_choice(const std::vector<std::string>& choices) const {
    const Json& answer = at("answer");
    if (answer.is_string()) {
      const auto found = std::ranges::find(choices, answer.string());
      if (found == choices.end())
        refuse_line(place_, fmt::format("the answer {} is none of the choices",
                                        quote_name(answer.string())));
      return static_cast<std::size_t>(found - choices.begin());
    }
    if (!answer.is_integer())
      refuse_line(place_, fmt::format("answer is {}, neither the index of a choice nor a choice",
                                      answer.type_name()));
    const std::int64_t index = answer.integer();
    if (index < 0 || std::cmp_greater_equal(index, choices.size()))
      refuse_line(place_, fmt::format("answer is {}, but choices are counted from 0 to {}", index,
                                      choices.size() - 1));
    return static_cast<std::size_t>(index);
  }

  void read_answers(Question& question) const {
    const Json& answer = at("answer");
    const Json list = answer.is_array() ? answer : Json::array({answer});
    if (list.empty()) refuse_line(place_, "answer is an empty list; give one or more texts");
    for (const Json& right : list.elements()) {
      if (!right.is_string() || trimmed(right.string()).empty())
        refuse_line(place_,
                    fmt::format("answer is {}, not text; put numbers in quotes, or give choices",
                                right.is_string() ? "empty" : right.type_name()));
      question.answers.push_back(right.string());
    }
  }

  const Json& json_;
  const std::string& place_;
};

Json parsed_line(std::string_view line, const std::string& place) {
  if (!is_valid_utf8(line)) refuse_line(place, "is not UTF-8");
  try {
    return io::parse_json(std::string(line));
  } catch (const Error& error) {
    refuse_line(place, fmt::format("{}. A line is {}", error.what(), kForms));
  }
}

Json user_says(const std::string& text) {
  return Json::array({Json{{"role", "user"}, {"content", text}}});
}

}  // namespace

double Questions::chance() const {
  if (items.empty() || !have_choices()) return 0;
  double sum = 0;
  for (const Question& question : items) sum += 1.0 / static_cast<double>(question.choices.size());
  return sum / static_cast<double>(items.size());
}

Questions read_questions(const std::filesystem::path& path, std::int64_t limit) {
  Questions questions;
  questions.file = path.filename().string();
  questions.sha256 = io::sha256_hex_of_file(path);
  std::int64_t number = 0;
  io::for_each_line(path, [&](std::string_view line) {
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return true;
    const std::string place = fmt::format("{}:{}", path.string(), number);
    const Json json = parsed_line(line, place);
    questions.items.push_back(Line(json, place).question(number));
    if (questions.items.back().has_choices() != questions.have_choices())
      refuse_line(place, fmt::format("has {}, but line {} has {}; a file asks in one way",
                                     questions.have_choices() ? "no choices" : "choices",
                                     questions.items.front().line,
                                     questions.have_choices() ? "some" : "none"));
    return limit == 0 || std::cmp_less(questions.items.size(), limit);
  });
  if (questions.items.empty())
    refuse_line(path.string(), fmt::format("holds no question; a line is {}", kForms));
  return questions;
}

std::vector<std::string> contexts_of(const Questions& questions, const QuestionFormat& format,
                                     const std::filesystem::path& model) {
  ChatSettings chat = format.chat;
  chat.variables["add_generation_prompt"] = true;
  ConversationRenderer renderer(model, chat);
  std::vector<std::string> contexts;
  for (const Question& question : questions.items) {
    const std::string place = fmt::format("{}:{}", questions.file, question.line);
    const std::string text = format.before + question.text;
    if (format.chat_template) {
      const Json messages = question.messages.is_null() ? user_says(text) : question.messages;
      contexts.push_back(with_context(place, [&] {
        return renderer.render({{"messages", messages}}, "messages").text;
      }));
    } else if (question.messages.is_null()) {
      contexts.push_back(text);
    } else {
      refuse_line(place,
                  "the question is a list of messages, which needs the model's chat template; set "
                  "template: true");
    }
  }
  return contexts;
}

// ---- Tokens

TokenIds encode_after(const Tokenizer& tokenizer, const TokenIds& prefix, const std::string& text) {
  TokenIds ids = text.empty() ? TokenIds() : tokenizer.encode(text);
  const bool there =
      ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  if (!there) ids.insert(ids.begin(), prefix.begin(), prefix.end());
  return ids;
}

namespace {

bool is_space(char32_t code_point) {
  return is_white_space(code_point) || (code_point >= 0x1C && code_point <= 0x1F);
}

// Bytes of `text` up to the white space at its end, as Python's str.rstrip sees it.
std::size_t end_without_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0 && is_space(last_code_point(text, end))) {
    --end;
    while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
  }
  return end;
}

}  // namespace

ContextAndContinuation encode_pair(const Tokenizer& tokenizer, const TokenIds& prefix,
                                   const TokenIds& otherwise, const std::string& context,
                                   const std::string& continuation) {
  const std::size_t end = end_without_space(context);
  const std::string before = context.substr(0, end);
  const std::string after = context.substr(end) + continuation;
  ContextAndContinuation result;
  if (before.empty()) {
    result.context = prefix.empty() ? otherwise : prefix;
    result.continuation = tokenizer.encode(after);
    return result;
  }
  result.context = encode_after(tokenizer, prefix, before);
  const TokenIds both = encode_after(tokenizer, prefix, before + after);
  const std::size_t shared = std::min(result.context.size(), both.size());
  result.continuation.assign(both.begin() + static_cast<std::ptrdiff_t>(shared), both.end());
  return result;
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string trimmed(std::string_view text) {
  text = text.substr(0, end_without_space(text));
  std::size_t begin = 0;
  while (begin < text.size()) {
    std::size_t next = begin;
    if (!is_space(next_code_point(text, next))) break;
    begin = next;
  }
  return std::string(text.substr(begin));
}

}  // namespace calque::text
