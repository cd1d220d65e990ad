#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/record/measurement.h"

namespace calque::record {

// Questions with right answers, and what models made of them.

enum class TaskKind { kMultipleChoice, kGeneration };
std::string_view name_of(TaskKind kind);  // "multiple_choice", "generation"

// Ways to count an answer of a multiple choice as right: the right choice has the largest
// log-likelihood (acc); the largest per character (acc_norm) or per byte (acc_bytes) of the choice.
// Generation has one: the answer is the expected text (exact_match).
inline constexpr std::string_view kAcc = "acc";
inline constexpr std::string_view kAccNorm = "acc_norm";
inline constexpr std::string_view kAccBytes = "acc_bytes";
inline constexpr std::string_view kExactMatch = "exact_match";

// One metric of one model: '1' for each question that it answered right, '0' for the others, in the
// order of the file. Everything that is shown is computed from it.
struct TaskScore {
  std::string metric;
  std::string right;
};

struct TaskMeasurement {
  std::string label;
  ModelKind kind = ModelKind::kArtifact;
  std::string kv_cache;           // name of the key/value rounding; "": none
  std::vector<TaskScore> scores;  // the task's metrics

  const std::string* find(std::string_view metric) const;  // the answers; null: not measured
};

// All models on the questions of one file.
struct TaskReport {
  std::string task;    // its name
  std::string file;    // file name only
  std::string sha256;  // hash of the file's bytes
  TaskKind kind = TaskKind::kMultipleChoice;
  std::string metric;         // the main one
  Index questions = 0;        // that were asked
  double chance = 0;          // expected share of right answers of a guess; generation: 0
  Index cut = 0;              // questions whose beginning did not fit into the model's context
  std::string tokenizer;      // Tokenizer::description()
  std::string tokens_sha256;  // hash of all token ids that the models were given
  // The reference first; then as in EvaluationReport.
  std::vector<TaskMeasurement> models;

  const TaskMeasurement& reference() const { return models.front(); }
  // The artifact with keys and values at full precision; null: not measured.
  const TaskMeasurement* artifact(const std::string& label) const;
};

// Share of right answers and its standard error, sqrt(p (1 - p) / (n - 1)): the sample's standard
// deviation (n - 1 below) over sqrt(n), as lm-evaluation-harness gives it.
struct Share {
  double value = 0;
  double standard_error = 0;
};
Share share_right(std::string_view right);

// The difference of a model's answers from the reference's on the same questions. Questions that
// both answer right or both wrong say nothing of the difference.
struct PairedDifference {
  double value = 0;           // share of the model - share of the reference
  double standard_error = 0;  // the mean's, of the questions' differences d = -1, 0 or 1
  std::int64_t lost = 0;      // right before, wrong now
  std::int64_t won = 0;
  double p_value = 1;  // McNemar's exact test, two-sided
};

// Standard error: with b lost and c won of n, sum d = c - b and sum d^2 = b + c, so that the sample
// variance of d is (b + c - (c - b)^2 / n) / (n - 1), and the mean's standard error sqrt(that / n).
// Both must have the same length.
PairedDifference paired_difference(std::string_view reference, std::string_view model);

// McNemar's test in its exact form: if both models are equally good, each of the b + c questions
// that only one of them answers right is lost or won with probability 1/2, so that b is Binomial(b
// + c, 1/2). Two-sided: min(1, 2 P(X <= min(b, c))) (McNemar 1947, Psychometrika 12, 153; exact
// form: Agresti, Categorical Data Analysis, 11.1). 1 where nothing differs.
double mcnemar_exact(std::int64_t lost, std::int64_t won);

}  // namespace calque::record
