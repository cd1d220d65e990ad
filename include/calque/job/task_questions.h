#pragma once

#include <optional>
#include <string>
#include <vector>

#include "calque/eval/continuations.h"
#include "calque/job/job.h"
#include "calque/job/tokens.h"
#include "calque/model/config.h"
#include "calque/record/task.h"
#include "calque/text/questions.h"
#include "calque/text/regex.h"

namespace calque::job {

// A task as tokens.
struct TaskQuestions {
  TaskSettings settings;  // with its name
  text::Questions questions;
  // Multiple choice: all choices of the first question, then those of the second, and so on.
  std::vector<eval::Continuation> continuations;
  std::vector<eval::Prompt> prompts;  // otherwise: one a question
  text::TokenIds ends;                // tokens that end an answer
  Index cut = 0;                      // questions that lost their beginning to the model's context
  std::string tokens_sha256;          // hash of all ids, with lengths between them

  record::TaskKind kind() const {
    return questions.have_choices() ? record::TaskKind::kMultipleChoice
                                    : record::TaskKind::kGeneration;
  }
  std::vector<std::string> metrics() const;  // the main one first
};

// Reads and tokenizes a task with the original's tokenizer. Contexts that are too long for the
// model lose their beginning, as in lm-evaluation-harness. Errors as in text/questions.h;
// Error(kInput, "E220") for a choice that is longer than the model's context or adds no token;
// Error(kConfig, "E247") for a metric that the file's kind does not have, and for max_new_tokens
// that leave no room for a question.
TaskQuestions task_questions(const TaskSettings& settings, Tokens& tokens,
                             std::optional<bool> add_bos, const model::ModelConfig& config);

// "task arithmetic: 150 questions; answers of up to 8 tokens take up to 8 passes over each model".
std::string task_note(const TaskQuestions& task);

// The regular expression of a task's answers; nullopt: the whole text is the answer. Error(kConfig,
// "E247") if it is none.
std::optional<text::Regex> answer_regex(const TaskSettings& settings);

// The text that a model has written, up to the first stop string.
std::string text_until_stop(const std::string& text, const std::vector<std::string>& stops);

// The answer in it, trimmed; "" where the pattern does not match.
std::string answer_in(const std::string& text, const TaskSettings& settings,
                      const std::optional<text::Regex>& regex);

}  // namespace calque::job
