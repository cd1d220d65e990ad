#include <fmt/format.h>

#include <algorithm>

#include "calque/core/units.h"
#include "report/scale.h"
#include "report/sections.h"

namespace calque::report {
namespace {

const std::string kDash = "\xE2\x80\x93";

std::string number_cell(double value) { return value > 0 ? number_text(value) : kDash; }

std::string percent_with_error(const Estimate& fraction) {
  return html_with_error(100 * fraction.value, 100 * fraction.uncertainty, 2);
}

std::string perplexity_change(const ModelResult& model, const ModelResult* reference) {
  if (reference == nullptr || reference == &model || reference->perplexity.value <= 0) return kDash;
  return fmt::format("{:+.2f} %", 100 * (model.perplexity.value / reference->perplexity.value - 1));
}

std::string percentile_cell(const Percentile& p) {
  if (!p.interval) return number_cell(p.value);
  return fmt::format("<span title=\"95 %: {} to {}\">{}</span>", number_text((*p.interval)[0]),
                     number_text((*p.interval)[1]), number_cell(p.value));
}

std::vector<std::string> quality_cells(const ModelResult& model, const ModelResult* reference) {
  std::vector<std::string> cells = {
      html_with_error(model.perplexity.value, model.perplexity.uncertainty, 2),
      perplexity_change(model, reference)};
  if (!model.divergence) {
    cells.insert(cells.end(), 8, kDash);
    return cells;
  }
  const Divergence& d = *model.divergence;
  cells.push_back(html_with_error(d.kl_mean.value, d.kl_mean.uncertainty));
  for (const Percentile* p : {&d.kl_median, &d.kl_p90, &d.kl_p99, &d.kl_p999})
    cells.push_back(percentile_cell(*p));
  cells.push_back(number_cell(d.kl_max));
  cells.push_back(percent_with_error(d.top1_agreement));
  cells.push_back(d.rms_delta_p > 0 ? fmt::format("{:.2f}", 100 * d.rms_delta_p) : kDash);
  return cells;
}

const Artifact* artifact_named(const Run& run, const std::string& name) {
  const auto found = std::ranges::find(run.artifacts, name, &Artifact::name);
  return found == run.artifacts.end() ? nullptr : &*found;
}

std::vector<std::string> size_cells(const Run& run, const ModelResult& model) {
  const Artifact* artifact = artifact_named(run, model.label);
  const std::uint64_t bytes = artifact == nullptr ? run.source_bytes : artifact->tensor_bytes;
  const double bits = artifact == nullptr ? run.source_bits_per_weight : artifact->bits_per_weight;
  std::string size = bytes > 0 ? bytes_text(bytes) : kDash;
  if (artifact != nullptr && run.source_bytes > 0)
    size += fmt::format(" <small>{:.0f} %</small>",
                        100.0 * static_cast<double>(bytes) / static_cast<double>(run.source_bytes));
  return {size, bits > 0 ? fmt::format("{:.3f}", bits) : kDash};
}

std::string label_of(const ModelResult& model) {
  switch (model.kind) {
    case ModelKind::kReference:
      return "original";
    case ModelKind::kNoiseFloor:
      return "noise floor";
    case ModelKind::kArtifact:
      break;
  }
  return model.label;
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

HtmlTable main_table(const Run& run, const Evaluation& evaluation) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"model", false}, {"size"}, {"bits/<br>weight"}};
  table.columns.insert(table.columns.end(), kQualityColumns.begin(), kQualityColumns.end());
  for (const ModelResult& model : evaluation.models) {
    if (!model.kv_cache.empty()) continue;
    HtmlTable::Row row{{escaped(label_of(model))},
                       model.kind == ModelKind::kArtifact ? "" : "original"};
    for (std::string& cell : size_cells(run, model)) row.cells.push_back(std::move(cell));
    for (std::string& cell : quality_cells(model, evaluation.reference()))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  return table;
}

HtmlTable kv_cache_table(const Evaluation& evaluation) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"weights", false}, {"keys and values", false}, {"cache"}};
  table.columns.insert(table.columns.end(), kQualityColumns.begin(), kQualityColumns.end());
  for (const ModelResult& model : evaluation.models) {
    if (model.kv_cache.empty()) continue;
    HtmlTable::Row row{{escaped(label_of(model)), escaped(model.kv_cache),
                        model.kv_cache_bytes > 0 ? bytes_text(model.kv_cache_bytes) : kDash},
                       ""};
    for (std::string& cell : quality_cells(model, evaluation.reference()))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption =
      "Against the original with keys and values at full precision. Cache: of one sequence of this "
      "length.";
  return table;
}

std::string caption_of(const Evaluation& evaluation) {
  const ModelResult* reference = evaluation.reference();
  return fmt::format(
      "Size (percent: of the original's) and bits per weight count all tensors: embeddings, head, "
      "scales, norms. {}KL "
      "divergence "
      "in nats a token, original against model: 0 is identical, and only figures on the same "
      "tokens, context and original compare. &plusmn;: one standard error. "
      "Noise floor: the original itself with its forward pass in bfloat16; below that models "
      "cannot be "
      "told apart.",
      reference == nullptr || reference->predictions == 0
          ? ""
          : fmt::format("Perplexity over {} predictions. ", reference->predictions));
}

// What was written but not measured.
HtmlTable sizes_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"model", false}, {"format", false}, {"size"}, {"bits/weight"}};
  for (const Artifact& a : run.artifacts) {
    HtmlTable::Row row{{escaped(a.name), escaped(a.format + " " + a.type)}, ""};
    for (std::string& cell : size_cells(run, ModelResult{a.name}))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption = "The job asked for no evaluation: there is nothing to say about quality.";
  return table;
}

}  // namespace

std::string evaluation_text(const Evaluation& evaluation) {
  const std::string name = evaluation.text.empty() ? "text" : evaluation.text;
  if (evaluation.windows == 0) return name;
  return fmt::format("{}, {} window{} of {} tokens", name, evaluation.windows,
                     evaluation.windows == 1 ? "" : "s", evaluation.seqlen);
}

void add_results(Page& page, const Run& run) {
  if (!run.finished) return;
  page.section("Results");
  if (run.evaluations.empty()) return page.table(sizes_table(run));
  for (const Evaluation& evaluation : run.evaluations) {
    page.html(fmt::format("<h3>{}</h3>\n", escaped(evaluation_text(evaluation))));
    const HtmlTable cached = kv_cache_table(evaluation);
    HtmlTable table = main_table(run, evaluation);
    if (&evaluation == &run.evaluations.front()) table.caption = caption_of(evaluation);
    page.table(table);
    if (!cached.rows.empty()) page.table(cached);
  }
}

}  // namespace calque::report
