#pragma once

#include <string>
#include <utility>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/record/report.h"
#include "cli/text_table.h"

namespace calque::cli {

// Columns for one model's perplexity and divergence in the results of `calque run`.
std::vector<TextTable::Column> metric_columns();
std::vector<std::string> metric_cells(const record::Measurement& m);

template <typename T>
void append(std::vector<T> more, std::vector<T>& to) {
  for (T& item : more) to.push_back(std::move(item));
}

// record::predictions_text, printable.
std::string shown_predictions(const record::EvaluationReport& evaluation);

bool several_texts(const std::vector<record::EvaluationReport>& evaluations);

// Results that the main table has no room for: each text, the noise floor, and the key/value
// caches. Empty, or begins with an empty line.
std::string further_results(const std::vector<record::EvaluationReport>& evaluations);

// Right answers of all models on each task; "" without tasks, else begins with an empty line.
std::string tasks_text(const std::vector<record::TaskReport>& tasks);

// The output of `calque eval`: for each evaluation one row per model, the reference first, with
// both perplexities, the divergences, and percentiles with their intervals.
std::string evaluations_text(const std::vector<record::EvaluationReport>& evaluations);

}  // namespace calque::cli
