#include "calque/job/task_questions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "calque/core/error.h"
#include "calque/eval/continuations.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::job {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

fs::path fixture(const std::string& name) { return fs::path(test::fixtures()) / "tasks" / name; }

TaskSettings settings_of(const fs::path& file) {
  TaskSettings settings;
  settings.name = "task";
  settings.file = file;
  return settings;
}

// The demo model, and what lm-evaluation-harness made of it (tests/fixtures/tasks/README.md).
class DemoTask : public ::testing::Test {
 protected:
  TaskQuestions questions(const TaskSettings& settings) {
    return task_questions(settings, tokens_, {}, reader_->config());
  }
  std::string refusal(const TaskSettings& settings, const std::string& lines) {
    const testing::TempFolder folder;
    io::write_file(folder.path() / "q.jsonl", lines);
    TaskSettings changed = settings;
    changed.file = folder.path() / "q.jsonl";
    try {
      questions(changed);
    } catch (const Error& error) {
      return error.code() + ": " + error.what();
    }
    return "nothing was thrown";
  }
  eval::EvalModel model() const { return {"demo", reader_.get(), &reader_->config()}; }

  std::unique_ptr<formats::ArtifactReader> reader_ = formats::open_artifact(test::demo_model());
  Tokens tokens_{test::demo_model()};
  io::Json expected_ = io::read_json(fixture("expected.json"));
};

// Both sum some 1e3 products for a logit of size 10 in fp32, in different orders: errors of some
// 10 * 2^-24 * sqrt(1e3) = 2e-5 a logit, and twice that a token's log-probability; the longest
// continuation has 24 tokens, and its errors are independent: 2e-4.
TEST_F(DemoTask, HasTheHarnesssLogLikelihoods) {
  const TaskQuestions task = questions(settings_of(fixture("choices.jsonl")));
  EXPECT_EQ(task.cut, 1);
  const auto scores = eval::score_continuations(model(), {}, task.continuations, {});
  std::size_t at = 0;
  for (const io::Json& question : expected_.at("choices").elements())
    for (std::size_t c = 0; c < question.at("greedy").size(); ++c, ++at) {
      EXPECT_NEAR(scores[0].at(at).log_likelihood, question.at("log_likelihoods").at(c).number(),
                  2e-4)
          << task.continuations[at].name << " choice " << c;
      EXPECT_EQ(scores[0][at].greedy, question.at("greedy").at(c).boolean());
    }
  EXPECT_EQ(at, scores[0].size());
}

TEST_F(DemoTask, WritesWhatTheHarnessGenerates) {
  TaskSettings settings = settings_of(fixture("answers.jsonl"));
  settings.max_new_tokens = 12;
  const TaskQuestions task = questions(settings);
  EXPECT_THAT(task.ends, ElementsAre(2));
  const auto written = eval::write_greedily(model(), {}, task.prompts,
                                            {.pass = {}, .max_new_tokens = 12, .ended = {}});
  for (std::size_t i = 0; i < task.prompts.size(); ++i) {
    const std::string text =
        text_until_stop(tokens_.tokenizer().decode(written[0][i]), settings.stop);
    EXPECT_EQ(text::trimmed(text), text::trimmed(expected_.at("answers").at(i).string()));
  }
}

TEST_F(DemoTask, RefusesWhatDoesNotFitTheModel) {
  TaskSettings settings = settings_of("");
  std::string words;
  for (int i = 0; i < 600; ++i) words += " and";
  EXPECT_THAT(
      refusal(settings, R"({"question": "a", "choices": ["b", ")" + words + R"("], "answer": 0})"),
      HasSubstr("tokens, but the model has 512 positions"));
  settings.metric = "acc";
  EXPECT_THAT(
      refusal(settings, R"({"question": "a", "answer": "b"})"),
      HasSubstr("E247: evaluate.tasks 'task': metric is 'acc', but q.jsonl has exact_match"));
  settings.metric = "";
  settings.max_new_tokens = 512;
  EXPECT_THAT(refusal(settings, R"({"question": "a", "answer": "b"})"),
              HasSubstr("max_new_tokens is 512, but the model has 512 positions"));
}

TEST_F(DemoTask, SaysWhatItTakes) {
  TaskSettings settings = settings_of(fixture("answers.jsonl"));
  settings.max_new_tokens = 8;
  EXPECT_EQ(task_note(questions(settings)),
            "task task: 3 questions, 1 of which lose their beginning to the model's context; "
            "answers of up to 8 tokens take up to 8 passes over each model");
}

TEST(TaskMetrics, BeginWithTheMainOne) {
  TaskQuestions task;
  task.questions.items.resize(1);
  EXPECT_THAT(task.metrics(), ElementsAre("exact_match"));
  task.questions.items[0].choices = {"a", "b"};
  EXPECT_THAT(task.metrics(), ElementsAre("acc_norm", "acc", "acc_bytes"));
  task.settings.metric = "acc_bytes";
  EXPECT_THAT(task.metrics(), ElementsAre("acc_bytes", "acc_norm", "acc"));
}

TEST(AnswerIn, IsTheFirstGroupOfTheMatch) {
  TaskSettings settings;
  EXPECT_EQ(answer_in(" 42 \n", settings, answer_regex(settings)), "42");
  settings.answer_pattern = "answer is (-?[0-9]+)|= ([0-9]+)";
  const std::string text = "2 + 2 = 5, so the answer is 7. The answer is -8!";
  EXPECT_EQ(answer_in(text, settings, answer_regex(settings)), "5");
  settings.last_match = true;
  EXPECT_EQ(answer_in(text, settings, answer_regex(settings)), "-8");
  EXPECT_EQ(answer_in("no idea", settings, answer_regex(settings)), "");
  settings.answer_pattern = "(";
  EXPECT_THROW(answer_regex(settings), Error);
}

TEST(TextUntilStop, EndsAtTheFirstOfAllStops) {
  EXPECT_EQ(text_until_stop("a, b\nc", {"\n", ", "}), "a");
  EXPECT_EQ(text_until_stop("abc", {"\n"}), "abc");
}

}  // namespace
}  // namespace calque::job
