#include "calque/pipeline/evaluate_tasks.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "calque/eval/continuations.h"
#include "calque/job/evaluation_settings.h"
#include "calque/job/task_questions.h"

namespace calque::pipeline {
namespace {

// The first of the largest, as numpy's argmax.
std::size_t largest(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
}

class TaskEvaluation {
 public:
  TaskEvaluation(const EvaluationWork& work, record::Observer& observer,
                 const job::TaskQuestions& task)
      : work_(work),
        observer_(observer),
        task_(task),
        models_(compared_models(work, kv_caches_of(work.settings, *work.original.config))) {}

  record::TaskReport run() {
    start_report();
    if (task_.questions.have_choices())
      choose();
    else
      write();
    return std::move(report_);
  }

 private:
  void start_report() {
    const std::vector<std::string> metrics = task_.metrics();
    report_.task = task_.settings.name;
    report_.file = task_.questions.file;
    report_.sha256 = task_.questions.sha256;
    report_.kind = task_.kind();
    report_.metric = metrics.front();
    report_.questions = static_cast<Index>(task_.questions.items.size());
    report_.chance = task_.questions.chance();
    report_.cut = task_.cut;
    report_.tokenizer = work_.tokens.tokenizer().description();
    report_.tokens_sha256 = task_.tokens_sha256;
    for (std::size_t m = 0; m < 1 + models_.size(); ++m) {
      const eval::EvalModel& model = m == 0 ? work_.original : models_[m - 1];
      record::TaskMeasurement& measurement = report_.models.emplace_back();
      measurement.label = model.label;
      measurement.kind = m == 0 ? record::ModelKind::kReference : model.kind;
      if (model.kv_cache) measurement.kv_cache = model.kv_cache->name;
      for (const std::string& metric : metrics) measurement.scores.push_back({metric, ""});
    }
  }

  eval::PassOptions options() const {
    return {.eval = {.runner = work_.runner,
                     .reference_states = work_.reference_states,
                     .progress = [this](Index done, Index) { observer_.step(done); }}};
  }

  Index steps_a_pass(const eval::EvalModel& model) const { return model.config->num_layers + 1; }

  // ---- Multiple choice

  void choose() {
    const eval::PassOptions passes = options();
    Index blocks = steps_a_pass(work_.original);
    for (const eval::EvalModel& model : models_) blocks = std::max(blocks, steps_a_pass(model));
    observer_.phase_started(
        "task " + task_.settings.name,
        blocks * static_cast<Index>(1 + models_.size()) *
            eval::continuation_passes(task_.continuations, passes.tokens_a_pass));
    const auto scores =
        eval::score_continuations(work_.original, models_, task_.continuations, passes);
    for (std::size_t m = 0; m < scores.size(); ++m) {
      auto first = scores[m].begin();
      for (const text::Question& question : task_.questions.items) {
        const auto last = first + static_cast<std::ptrdiff_t>(question.choices.size());
        judge(question, {first, last}, report_.models[m]);
        first = last;
      }
    }
  }

  static void judge(const text::Question& question,
                    const std::vector<eval::ContinuationScore>& scores,
                    record::TaskMeasurement& measurement) {
    for (record::TaskScore& score : measurement.scores) {
      std::vector<double> values;
      for (std::size_t c = 0; c < scores.size(); ++c)
        values.push_back(scores[c].log_likelihood / length(question.choices[c], score.metric));
      score.right += largest(values) == question.right_choice ? '1' : '0';
    }
  }

  static double length(const std::string& choice, const std::string& metric) {
    if (metric == record::kAcc) return 1;
    return static_cast<double>(metric == record::kAccNorm ? text::character_count(choice)
                                                          : choice.size());
  }

  // ---- Answers that the model writes

  void write() {
    const std::optional<text::Regex> regex = job::answer_regex(task_.settings);
    const eval::GreedyOptions greedy{
        .pass = options(),
        .max_new_tokens = task_.settings.max_new_tokens,
        .ended = [this](Index, const text::TokenIds& written) { return is_at_end(written); }};
    Index steps = steps_a_pass(work_.original);
    for (const eval::EvalModel& model : models_) steps += steps_a_pass(model);
    observer_.phase_started("task " + task_.settings.name,
                            steps * eval::greedy_passes(task_.prompts, greedy));
    const auto written = eval::write_greedily(work_.original, models_, task_.prompts, greedy);
    for (std::size_t m = 0; m < written.size(); ++m)
      for (std::size_t i = 0; i < written[m].size(); ++i)
        report_.models[m].scores.front().right +=
            is_right(answer_in(text_of(written[m][i]), task_.settings, regex),
                     task_.questions.items[i])
                ? '1'
                : '0';
  }

  bool ends(std::int32_t id) const { return std::ranges::binary_search(task_.ends, id); }

  std::string text_of(text::TokenIds written) const {
    if (!written.empty() && ends(written.back())) written.pop_back();
    return job::text_until_stop(work_.tokens.tokenizer().decode(written), task_.settings.stop);
  }

  bool is_at_end(const text::TokenIds& written) const {
    if (ends(written.back())) return true;
    const std::string text = work_.tokens.tokenizer().decode(written);
    return text.size() != job::text_until_stop(text, task_.settings.stop).size();
  }

  static bool is_right(const std::string& answer, const text::Question& question) {
    return std::ranges::any_of(
        question.answers, [&](const std::string& right) { return answer == text::trimmed(right); });
  }

  const EvaluationWork& work_;
  record::Observer& observer_;
  const job::TaskQuestions& task_;
  std::vector<eval::EvalModel> models_;
  record::TaskReport report_;
};

}  // namespace

std::vector<record::TaskReport> evaluate_tasks(const EvaluationWork& work,
                                               record::Observer& observer) {
  std::vector<record::TaskReport> reports = work.finished_tasks;
  for (std::size_t i = reports.size(); i < work.tasks.size(); ++i) {
    reports.push_back(TaskEvaluation(work, observer, work.tasks[i]).run());
    if (work.keep_task) work.keep_task(reports.back());
  }
  return reports;
}

}  // namespace calque::pipeline
