#include "calque/job/task_questions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <span>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/sha256.h"

namespace calque::job {
namespace {

constexpr std::uint32_t kMatchSteps = 1000000;  // a regular expression's, for one answer

[[noreturn]] void refuse_settings(const TaskSettings& task, const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E247",
              fmt::format("evaluate.tasks '{}': {}", task.name, reason));
}

// The first token of an empty context where the tokenizer puts none: BOS, or else EOS.
text::TokenIds first_token(const model::ModelConfig& config) {
  for (const std::optional<std::int64_t>& id : {config.bos_token_id, config.eos_token_id})
    if (id) return {static_cast<std::int32_t>(*id)};
  return {};
}

// Takes tokens from the front until `room` are left; true if there were more.
bool cut_front(text::TokenIds& ids, Index room) {
  const Index over = static_cast<Index>(ids.size()) - room;
  if (over <= 0) return false;
  ids.erase(ids.begin(), ids.begin() + over);
  return true;
}

class Encoder {
 public:
  Encoder(Tokens& tokens, std::optional<bool> add_bos, const model::ModelConfig& config,
          TaskQuestions& task)
      : tokenizer_(tokens.tokenizer()),
        prefix_(tokens.text_prefix(add_bos, config)),
        otherwise_(first_token(config)),
        positions_(config.max_positions),
        task_(task) {}

  void add_choices(const text::Question& question, const std::string& context) {
    const text::QuestionFormat& format = task_.settings.format;
    const std::string delimiter = format.chat_template ? "" : format.delimiter;
    bool cut = false;
    for (const std::string& choice : question.choices) {
      text::ContextAndContinuation pair =
          text::encode_pair(tokenizer_, prefix_, otherwise_, context, delimiter + choice);
      if (pair.continuation.empty()) refuse(question, choice, "adds no token to the question");
      if (pair.context.empty())
        refuse(question, choice,
               "comes after nothing: the question is empty, and the model names neither BOS nor "
               "EOS. Write a question");
      cut |= cut_context(question, choice, pair);
      task_.continuations.push_back(
          {std::move(pair.context), std::move(pair.continuation), place(question)});
    }
    task_.cut += cut;
  }

  void add_prompt(const text::Question& question, const std::string& context) {
    const Index longest = task_.settings.max_new_tokens;
    if (positions_ > 0 && longest >= positions_)
      refuse_settings(task_.settings,
                      fmt::format("max_new_tokens is {}, but the model has {} positions, some of "
                                  "which the question needs. Set max_new_tokens below that",
                                  longest, positions_));
    text::TokenIds ids = text::encode_after(tokenizer_, prefix_, context);
    if (ids.empty()) ids = otherwise_;
    if (ids.empty())
      throw Error(ErrorKind::kInput, "E220",
                  fmt::format("{}: the question is empty, and the model names neither BOS nor EOS. "
                              "Write a question",
                              place(question)));
    if (positions_ > 0) task_.cut += cut_front(ids, positions_ - longest);
    task_.prompts.push_back({std::move(ids), place(question)});
  }

 private:
  std::string place(const text::Question& question) const {
    return fmt::format("{}:{}", task_.questions.file, question.line);
  }

  [[noreturn]] void refuse(const text::Question& question, const std::string& choice,
                           const std::string& reason) const {
    throw Error(ErrorKind::kInput, "E220",
                fmt::format("{}: the choice {} {}", place(question), quote_name(choice), reason));
  }

  // The models read all but the last token.
  bool cut_context(const text::Question& question, const std::string& choice,
                   text::ContextAndContinuation& pair) const {
    if (positions_ == 0) return false;
    const Index room = positions_ + 1 - static_cast<Index>(pair.continuation.size());
    if (room < 1)
      refuse(question, choice,
             fmt::format("has {} tokens, but the model has {} positions. Shorten it",
                         pair.continuation.size(), positions_));
    return cut_front(pair.context, room);
  }

  const text::Tokenizer& tokenizer_;
  text::TokenIds prefix_;
  text::TokenIds otherwise_;
  Index positions_;
  TaskQuestions& task_;
};

void check_metric(const TaskQuestions& task) {
  const std::vector<std::string> metrics = task.metrics();
  const std::string& wanted = task.settings.metric;
  if (wanted.empty() || std::ranges::find(metrics, wanted) != metrics.end()) return;
  refuse_settings(task.settings,
                  fmt::format("metric is {}, but {} has {}; leave it out, or set one of "
                              "these",
                              quote_name(wanted), task.questions.file, fmt::join(metrics, ", ")));
}

std::string hash_of(const TaskQuestions& task) {
  std::vector<std::int32_t> ids;
  const auto add = [&ids](const text::TokenIds& tokens) {
    ids.push_back(static_cast<std::int32_t>(tokens.size()));
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  };
  for (const eval::Continuation& continuation : task.continuations) {
    add(continuation.before);
    add(continuation.tokens);
  }
  for (const eval::Prompt& prompt : task.prompts) add(prompt.tokens);
  return io::sha256_hex(std::as_bytes(std::span(ids)));
}

}  // namespace

std::vector<std::string> TaskQuestions::metrics() const {
  if (!questions.have_choices()) return {std::string(record::kExactMatch)};
  std::vector<std::string> all = {std::string(record::kAccNorm), std::string(record::kAcc),
                                  std::string(record::kAccBytes)};
  const auto main = std::ranges::find(all, settings.metric);
  if (main != all.end()) std::rotate(all.begin(), main, main + 1);
  return all;
}

TaskQuestions task_questions(const TaskSettings& settings, Tokens& tokens,
                             std::optional<bool> add_bos, const model::ModelConfig& config) {
  TaskQuestions task;
  task.settings = settings;
  task.questions = text::read_questions(settings.file, settings.limit);
  check_metric(task);
  const std::vector<std::string> contexts =
      text::contexts_of(task.questions, settings.format, tokens.model());
  Encoder encoder(tokens, add_bos, config, task);
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const text::Question& question = task.questions.items[i];
    if (question.has_choices())
      encoder.add_choices(question, contexts[i]);
    else
      encoder.add_prompt(question, contexts[i]);
  }
  if (!task.questions.have_choices())
    task.ends = text::end_tokens(tokens.model(), tokens.tokenizer());
  task.tokens_sha256 = hash_of(task);
  return task;
}

std::string task_note(const TaskQuestions& task) {
  std::string note =
      fmt::format("task {}: {} questions", task.settings.name, task.questions.items.size());
  if (task.cut > 0)
    note += fmt::format(", {} of which lose their beginning to the model's context", task.cut);
  if (task.questions.have_choices()) return note;
  const Index passes = eval::greedy_passes(
      task.prompts, {.pass = {}, .max_new_tokens = task.settings.max_new_tokens, .ended = {}});
  return note + fmt::format("; answers of up to {} tokens take up to {} passes over each model",
                            task.settings.max_new_tokens, passes);
}

std::optional<text::Regex> answer_regex(const TaskSettings& settings) {
  if (settings.answer_pattern.empty()) return std::nullopt;
  try {
    return text::Regex(settings.answer_pattern,
                       {.unicode_lines = true, .match_limit = kMatchSteps});
  } catch (const text::RegexError& error) {
    refuse_settings(settings,
                    fmt::format("answer_pattern {} is not a regular expression: {} at "
                                "character {}",
                                quote_name(settings.answer_pattern), error.what(), error.offset()));
  }
}

std::string text_until_stop(const std::string& text, const std::vector<std::string>& stops) {
  std::size_t end = text.size();
  for (const std::string& stop : stops) end = std::min(end, text.find(stop));
  return text.substr(0, end);
}

std::string answer_in(const std::string& text, const TaskSettings& settings,
                      const std::optional<text::Regex>& regex) {
  if (!regex) return text::trimmed(text);
  std::string answer;
  text::Regex::Search search(*regex, text);
  try {
    for (std::size_t start = 0; start <= text.size();) {
      const auto match = search.match_from(start);
      if (!match) break;
      answer = text.substr(match->group.begin, match->group.end - match->group.begin);
      if (!settings.last_match) break;
      start = std::max(match->whole.end, start + 1);
      while (start < text.size() && (text[start] & 0xC0) == 0x80) ++start;
    }
  } catch (const text::RegexError& error) {
    refuse_settings(settings,
                    fmt::format("answer_pattern {} was given up on an answer: {}. Write it so that "
                                "it needs fewer steps",
                                quote_name(settings.answer_pattern), error.what()));
  }
  return text::trimmed(answer);
}

}  // namespace calque::job
