#include <fmt/format.h>

#include <algorithm>

#include "calque/core/units.h"
#include "report/scale.h"
#include "report/sections.h"

namespace calque::report {
namespace {

const std::string kDash = "\xE2\x80\x93";

std::string number_cell(double value) { return value > 0 ? number_text(value) : kDash; }

std::string perplexity_change(const record::Measurement& model,
                              const record::Measurement* reference) {
  if (reference == nullptr || reference == &model || reference->perplexity_hf.value <= 0)
    return kDash;
  return fmt::format("{:+.2f} %",
                     100 * (model.perplexity_hf.value / reference->perplexity_hf.value - 1));
}

std::string percentile_cell(double value, const record::Interval& interval) {
  if (!interval.known()) return number_cell(value);
  return fmt::format("<span title=\"95 %: {} to {}\">{}</span>", number_text(interval.low),
                     number_text(interval.high), number_cell(value));
}

std::vector<std::string> quality_cells(const record::Measurement& model,
                                       const record::Measurement* reference) {
  std::vector<std::string> cells = {
      html_with_error(model.perplexity_hf.value, model.perplexity_hf.uncertainty, 2),
      perplexity_change(model, reference)};
  if (!model.compared()) {
    cells.insert(cells.end(), 8, kDash);
    return cells;
  }
  const record::DivergenceResult& d = model.divergence;
  cells.push_back(html_with_error(d.kl_mean, d.kl_mean_uncertainty));
  cells.push_back(percentile_cell(d.kl_median, d.median_interval));
  cells.push_back(percentile_cell(d.kl_p90, d.p90_interval));
  cells.push_back(percentile_cell(d.kl_p99, d.p99_interval));
  cells.push_back(percentile_cell(d.kl_p999, d.p999_interval));
  cells.push_back(number_cell(d.kl_max));
  cells.push_back(html_with_error(100 * d.top1_agreement, 100 * d.top1_agreement_uncertainty, 2));
  cells.push_back(d.rms_delta_p > 0 ? fmt::format("{:.2f}", 100 * d.rms_delta_p) : kDash);
  return cells;
}

const record::ArtifactReport* artifact_named(const Run& run, const std::string& name) {
  const auto found = std::ranges::find(run.artifacts, name, &record::ArtifactReport::name);
  return found == run.artifacts.end() ? nullptr : &*found;
}

std::vector<std::string> size_cells(const Run& run, const record::Measurement& model) {
  const record::ArtifactReport* artifact = artifact_named(run, model.label);
  const std::uint64_t bytes = artifact == nullptr ? run.source_bytes : artifact->plan.tensor_bytes;
  const double bits = artifact == nullptr ? run.source_bits_per_weight : artifact->bits_per_weight;
  std::string size = bytes > 0 ? bytes_text(bytes) : kDash;
  if (artifact != nullptr && run.source_bytes > 0)
    size += fmt::format(" <small>{:.0f} %</small>",
                        100.0 * static_cast<double>(bytes) / static_cast<double>(run.source_bytes));
  return {size, bits > 0 ? fmt::format("{:.3f}", bits) : kDash};
}

std::string label_of(const record::Measurement& model) {
  switch (model.kind) {
    case record::ModelKind::kReference:
      return "original";
    case record::ModelKind::kNoiseFloor:
      return "noise floor";
    default:
      return model.label;
  }
}

const std::vector<HtmlTable::Column> kQualityColumns = {{"perplexity"},
                                                        {"change"},
                                                        {"KL&nbsp;mean"},
                                                        {"median"},
                                                        {"90 %"},
                                                        {"99 %"},
                                                        {"99.9 %"},
                                                        {"max"},
                                                        {"same<br>top&#8209;1, %"},
                                                        {"RMS<br>&Delta;p, %"}};

HtmlTable main_table(const Run& run, const record::EvaluationReport& evaluation) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"model", false}, {"size"}, {"bits/<br>weight"}};
  table.columns.insert(table.columns.end(), kQualityColumns.begin(), kQualityColumns.end());
  for (const record::Measurement& model : evaluation.models) {
    if (!model.kv_cache.empty()) continue;
    HtmlTable::Row row{{escaped(label_of(model))},
                       model.kind == record::ModelKind::kArtifact ? "" : "original"};
    for (std::string& cell : size_cells(run, model)) row.cells.push_back(std::move(cell));
    for (std::string& cell : quality_cells(model, evaluation.find(record::ModelKind::kReference)))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  return table;
}

HtmlTable kv_cache_table(const record::EvaluationReport& evaluation) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"weights", false}, {"keys and values", false}, {"cache"}};
  table.columns.insert(table.columns.end(), kQualityColumns.begin(), kQualityColumns.end());
  for (const record::Measurement& model : evaluation.models) {
    if (model.kv_cache.empty()) continue;
    HtmlTable::Row row{{escaped(label_of(model)), escaped(model.kv_cache),
                        model.kv_cache_bytes > 0 ? bytes_text(model.kv_cache_bytes) : kDash},
                       ""};
    for (std::string& cell : quality_cells(model, evaluation.find(record::ModelKind::kReference)))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption =
      "Against the original with keys and values at full precision. Cache: of one sequence of this "
      "length.";
  return table;
}

std::string caption_of(const record::EvaluationReport& evaluation) {
  const record::Measurement* reference = evaluation.find(record::ModelKind::kReference);
  return fmt::format(
      "Size (percent: of the original's) and bits per weight count all tensors: embeddings, head, "
      "scales, norms. {}KL "
      "divergence "
      "in nats a token, original against model: 0 is identical, and only figures on the same "
      "tokens, context and original compare. &plusmn;: one standard error. "
      "Noise floor: the original itself with its forward pass in bfloat16; below that models "
      "cannot be "
      "told apart.",
      reference == nullptr || reference->perplexity_hf.predictions == 0
          ? ""
          : fmt::format("Perplexity over {} predictions. ", reference->perplexity_hf.predictions));
}

// What was written but not measured.
HtmlTable sizes_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"model", false}, {"format", false}, {"size"}, {"bits/weight"}};
  for (const record::ArtifactReport& a : run.artifacts) {
    HtmlTable::Row row{{escaped(a.name()), escaped(a.format() + " " + a.type())}, ""};
    for (std::string& cell : size_cells(run, record::Measurement{a.name()}))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption = "The job asked for no evaluation: there is nothing to say about quality.";
  return table;
}

}  // namespace

std::string evaluation_text(const record::EvaluationReport& evaluation) {
  const std::string name = evaluation.text.empty() ? "text" : evaluation.text;
  if (evaluation.windows == 0) return name;
  return fmt::format("{}, {} window{} of {} tokens", name, evaluation.windows,
                     evaluation.windows == 1 ? "" : "s", evaluation.seqlen);
}

void add_results(Page& page, const Run& run) {
  if (!run.finished) return;
  page.section("Results");
  if (run.evaluations.empty()) return page.table(sizes_table(run));
  for (const record::EvaluationReport& evaluation : run.evaluations) {
    page.html(fmt::format("<h3>{}</h3>\n", escaped(evaluation_text(evaluation))));
    const HtmlTable cached = kv_cache_table(evaluation);
    HtmlTable table = main_table(run, evaluation);
    if (&evaluation == &run.evaluations.front()) table.caption = caption_of(evaluation);
    page.table(table);
    if (!cached.rows.empty()) page.table(cached);
  }
}

}  // namespace calque::report
