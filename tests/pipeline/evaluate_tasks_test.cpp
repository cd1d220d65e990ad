#include "calque/pipeline/evaluate_tasks.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace calque::pipeline {
namespace {

using ::testing::ElementsAre;

class CountedPhases : public record::Observer {
 public:
  void phase_started(const std::string& title, Index steps) override {
    phases.push_back(fmt::format("{} {}", title, steps));
  }
  void step(Index done) override { last = done; }

  std::vector<std::string> phases;
  Index last = 0;
};

// The model of tests/fixtures/gguf with two blocks, and one of its blocks in Q4_0.
TEST(EvaluateTasks, AsksEveryModelTheSameQuestions) {
  const testing::TempFolder folder;
  io::write_file(folder.path() / "sums.jsonl", R"({"question": "3 + 4 =", "answer": "7"})"
                                               "\n");
  io::write_file(folder.path() / "words.jsonl",
                 R"({"question": "He went", "choices": ["home", "x"], "answer": 0})"
                 "\n"
                 R"({"question": "He went", "choices": ["x", "home"], "answer": 1})"
                 "\n");
  job::EvaluationSettings settings;
  settings.noise_floor = true;
  for (const char* name : {"words.jsonl", "sums.jsonl"})
    settings.tasks.emplace_back().file = folder.path() / name;
  settings.tasks[1].max_new_tokens = 3;
  settings.tasks[1].stop = {};

  const auto original = formats::open_artifact(fixture("artifacts/gguf/tiny-f16.gguf"));
  const auto artifact = formats::open_artifact(fixture("artifacts/gguf/tiny-1layer-Q4_0.gguf"));
  job::Tokens tokens(fixture("artifacts/source"));
  EvaluationWork work{.settings = settings,
                      .tokens = tokens,
                      .original = {"original", original.get(), &original->config()},
                      .artifacts = {{"tiny-q4_0", artifact.get(), &artifact->config()}},
                      .runner = {}};
  for (const job::TaskSettings& task : settings.named_tasks())
    work.tasks.push_back(task_questions(task, tokens, settings.add_bos, original->config()));
  std::vector<std::string> kept;
  work.keep_task = [&](const record::TaskReport& task) { kept.push_back(task.task); };
  CountedPhases observer;
  const std::vector<record::TaskReport> reports = evaluate_tasks(work, observer);

  // Blocks and head of the original, the noise floor and the artifact; three passes of each.
  EXPECT_THAT(observer.phases, ElementsAre("task words 9", "task sums 24"));
  EXPECT_THAT(kept, ElementsAre("words", "sums"));
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].metric, "acc_norm");
  EXPECT_EQ(reports[0].chance, 0.5);
  EXPECT_EQ(reports[1].kind, record::TaskKind::kGeneration);
  for (const record::TaskReport& report : reports) {
    std::vector<std::string> labels;
    for (const record::TaskMeasurement& m : report.models) {
      labels.push_back(fmt::format("{} {}", m.label, record::name_of(m.kind)));
      for (const record::TaskScore& score : m.scores)
        EXPECT_EQ(score.right.size(), static_cast<std::size_t>(report.questions));
    }
    EXPECT_THAT(labels,
                ElementsAre("original reference", "original noise_floor", "tiny-q4_0 artifact"));
  }
  // The order of the choices makes no difference.
  const std::string& right = *reports[0].reference().find("acc");
  EXPECT_EQ(right[0], right[1]);

  work.finished_tasks = reports;
  work.tasks[0].questions.items.clear();
  EXPECT_EQ(evaluate_tasks(work, observer).size(), 2u);
  EXPECT_EQ(kept.size(), 2u);
}

}  // namespace
}  // namespace calque::pipeline
