#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "calque/report/points.h"
#include "calque/report/record.h"
#include "report/page.h"

namespace calque::report {

Page run_page(const Run& run);
Page sweep_page(const Sweep& sweep);

// Parts of the page. Each adds nothing if it has no data.

// Tables of all evaluations, with key/value caches of fewer bits in tables of their own.
void add_results(Page& page, const Run& run);
// A table for each task: right answers of every model, paired with the original's.
void add_tasks(Page& page, const Run& run);
// Grouping of points by `series` (an index per point) in plots of KL divergence against size.
struct ParetoSeries {
  std::vector<std::size_t> of_point;
  std::vector<std::string> names;
};
void add_pareto(Page& page, const std::vector<Point>& points, const ParetoSeries& series,
                double source_bits, double noise_floor);
// Several texts side by side, and the distribution of KL divergence over the tokens of `evaluation`
// (null: not recorded).
void add_texts_and_spread(Page& page, const std::vector<Point>& points,
                          const record::EvaluationReport* evaluation);
// Heat maps of every pass over the model.
void add_modules(Page& page, const Run& run);
// The choice that met a target size.
void add_allocation(Page& page, const Run& run);
// Seconds, memory and bytes, measured next to predicted.
void add_costs(Page& page, const Run& run);
// Warnings; the job, its data, and how to repeat it.
void add_warnings(Page& page, const Run& run);
void add_provenance(Page& page, const Run& run);
std::string data_table(const Run& run);

// "text, 40 windows of 512 tokens"
std::string evaluation_text(const record::EvaluationReport& evaluation);

}  // namespace calque::report
