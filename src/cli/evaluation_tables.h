#pragma once

#include <string>
#include <utility>
#include <vector>

#include "calque/eval/evaluate.h"
#include "calque/record/report.h"
#include "cli/text_table.h"

namespace calque::cli {

// One model's perplexity and divergence in a few columns: for the results of `calque run`.
std::vector<TextTable::Column> metric_columns();
std::vector<std::string> metric_cells(const record::Measurement& m);

template <typename T>
void append(std::vector<T> more, std::vector<T>& to) {
  for (T& item : more) to.push_back(std::move(item));
}

bool several_texts(const std::vector<record::EvaluationReport>& evaluations);

// What the table of results has no room for: each text by itself, the noise floor, and the
// key/value caches. Empty, or begins with an empty line.
std::string further_results(const std::vector<record::EvaluationReport>& evaluations);

// `calque eval`, evaluation by evaluation: a row a model with both perplexities, the divergences,
// and percentiles with their intervals; the reference first.
std::string evaluations_text(const std::vector<record::EvaluationReport>& evaluations);

}  // namespace calque::cli
