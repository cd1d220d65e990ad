#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "calque/core/units.h"
#include "report/pages.h"
#include "report/pareto_plot.h"
#include "report/row_plots.h"
#include "report/scale.h"

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
      "Compared with the original with keys and values at full precision. Cache: size for one "
      "sequence of this length.";
  return table;
}

std::string caption_of(const record::EvaluationReport& evaluation) {
  const record::Measurement* reference = evaluation.find(record::ModelKind::kReference);
  return fmt::format(
      "Size (percent of the original) and bits per weight count all tensors: embeddings, head, "
      "scales, norms. {}KL divergence in nats per token, from the original to the model: 0 is "
      "identical, and only results on the same tokens, context length and original are comparable. "
      "&plusmn;: one standard error. Noise floor: the original itself with its forward pass in "
      "bfloat16; smaller differences cannot be told apart.",
      reference == nullptr || reference->perplexity_hf.predictions == 0
          ? ""
          : fmt::format("Perplexity over {} predictions, {}. ",
                        reference->perplexity_hf.predictions,
                        record::predictions_text(
                            evaluation,
                            evaluation.begins_with ? escaped(evaluation.begins_with->text) : "")));
}

// Artifacts that were written but not measured.
HtmlTable sizes_table(const Run& run) {
  HtmlTable table;
  table.columns = {{"model", false}, {"format", false}, {"size"}, {"bits/weight"}};
  for (const record::ArtifactReport& a : run.artifacts) {
    HtmlTable::Row row{{escaped(a.name()), escaped(a.format() + " " + a.type())}, ""};
    for (std::string& cell : size_cells(run, record::Measurement{a.name()}))
      row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption = run.tasks.empty()
                      ? "The job has no evaluation, so quality is unknown."
                      : "No text was evaluated, so perplexity and divergence are unknown.";
  return table;
}

}  // namespace

std::string evaluation_text(const record::EvaluationReport& evaluation) {
  const std::string name = evaluation.text.empty() ? "text" : evaluation.text;
  if (evaluation.windows == 0) return name;
  return fmt::format("{}, {} window{} of {} tokens", name, evaluation.windows,
                     evaluation.windows == 1 ? "" : "s", evaluation.seqlen);
}

namespace {

std::string label_of(const record::TaskMeasurement& model) {
  record::Measurement named{.label = model.label, .kind = model.kind};
  const std::string label = label_of(named);
  return model.kv_cache.empty() ? label : fmt::format("{}, cache {}", label, model.kv_cache);
}

std::vector<std::string> task_cells(const record::TaskReport& task,
                                    const record::TaskMeasurement& model,
                                    const record::TaskScore& score) {
  const record::Share share = record::share_right(score.right);
  std::vector<std::string> cells = {
      escaped(score.metric), html_with_error(100 * share.value, 100 * share.standard_error, 2)};
  const std::string* reference = task.reference().find(score.metric);
  if (&model == &task.reference() || reference == nullptr ||
      reference->size() != score.right.size()) {
    cells.insert(cells.end(), 4, kDash);
    return cells;
  }
  const record::PairedDifference d = record::paired_difference(*reference, score.right);
  cells.push_back(fmt::format("{:+.2f} &plusmn; {:.2f}", 100 * d.value, 100 * d.standard_error));
  cells.push_back(std::to_string(d.lost));
  cells.push_back(std::to_string(d.won));
  cells.push_back(number_text(d.p_value));
  return cells;
}

HtmlTable task_table(const record::TaskReport& task) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"model", false}, {"metric", false}, {"right, %"}, {"difference"},
                   {"lost"},         {"won"},           {"p"}};
  for (const record::TaskMeasurement& model : task.models)
    for (const record::TaskScore& score : model.scores) {
      HtmlTable::Row row{{escaped(label_of(model))},
                         model.kind == record::ModelKind::kArtifact ? "" : "original"};
      for (std::string& cell : task_cells(task, model, score)) row.cells.push_back(std::move(cell));
      table.rows.push_back(std::move(row));
    }
  return table;
}

std::string title_of(const record::TaskReport& task) {
  const bool choices = task.kind == record::TaskKind::kMultipleChoice;
  return fmt::format(
      "{}, {} questions{}{}", task.task, task.questions,
      choices ? fmt::format(", chance {:.1f} %", 100 * task.chance)
              : std::string(", answered in the model's own words"),
      task.cut > 0 ? fmt::format("; {} lost their beginning to the context", task.cut) : "");
}

}  // namespace

void add_tasks(Page& page, const Run& run) {
  if (run.tasks.empty()) return;
  page.section("Tasks");
  for (const record::TaskReport& task : run.tasks) {
    page.html(fmt::format("<h3>{}</h3>\n", escaped(title_of(task))));
    HtmlTable table = task_table(task);
    if (&task == &run.tasks.back())
      table.caption =
          "Share of right answers, and its difference from the original's on the same questions, "
          "&plusmn; one standard error (of the paired difference). Lost and won: questions that "
          "only the original, only the model answers right. p: McNemar's exact test that both are "
          "equally good, two-sided; with a few differing questions no difference can be shown.";
    page.table(table);
  }
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

namespace {

constexpr std::size_t kMostLabels = 16;  // more would be unreadable

// The unit of bytes in which the largest point is between 1 and 1000.
struct Unit {
  double bytes;
  const char* name;
};
Unit unit_for(double most) {
  if (most >= 1024.0 * 1024 * 1024) return {1024.0 * 1024 * 1024, "GiB"};
  if (most >= 1024.0 * 1024) return {1024.0 * 1024, "MiB"};
  return {1024.0, "KiB"};
}

std::string tooltip_of(const Point& point) {
  const Quality& q = *point.main();
  return fmt::format("{}\n{} bits/weight, {}\nKL {}\nsame top-1 {:.2f} %\nperplexity {:.2f}",
                     point.label, number_text(point.bits_per_weight, 4), bytes_text(point.bytes),
                     text_with_error(q.kl_mean.value, q.kl_error()), 100 * q.top1_agreement,
                     q.perplexity.value);
}

io::Csv pareto_data(const std::vector<Point>& points) {
  io::Csv csv{{"label", "bits_per_weight", "bytes", "kl_mean", "kl_error", "top1_agreement", "ppl"},
              {}};
  for (const Point& p : points) {
    const Quality& q = *p.main();
    csv.rows.push_back({p.label, fmt::format("{:.6g}", p.bits_per_weight), std::to_string(p.bytes),
                        fmt::format("{:.6g}", q.kl_mean.value), fmt::format("{:.6g}", q.kl_error()),
                        fmt::format("{:.6g}", q.top1_agreement),
                        fmt::format("{:.6g}", q.perplexity.value)});
  }
  return csv;
}

// One row per model. nullopt for a single text, or for more rows than can be told apart.
std::optional<Figure> texts_figure(const std::vector<Point>& points) {
  DotPlot plot;
  io::Csv data{{"model", "text", "seqlen", "kl_mean", "kl_error"}, {}};
  for (const Point& p : points) {
    std::size_t of_row = 0;
    for (const Quality& q : p.qualities) {
      if (!q.has_kl) continue;
      const std::string name = q.seqlen > 0 ? fmt::format("{} ({})", q.text, q.seqlen) : q.text;
      auto series = std::ranges::find(plot.series, name) - plot.series.begin();
      if (series == std::ssize(plot.series)) plot.series.push_back(name);
      plot.points.push_back({plot.rows.size(), static_cast<std::size_t>(series), q.kl_mean.value,
                             q.kl_error(),
                             fmt::format("{}, {}: {}", p.label, name,
                                         text_with_error(q.kl_mean.value, q.kl_error()))});
      data.rows.push_back({p.label, q.text, std::to_string(q.seqlen),
                           fmt::format("{:.6g}", q.kl_mean.value),
                           fmt::format("{:.6g}", q.kl_error())});
      ++of_row;
    }
    if (of_row > 0) plot.rows.push_back(p.label);
  }
  if (plot.series.size() < 2 || plot.rows.size() > kMostLabels) return {};
  plot.title = "KL divergence by text";
  plot.description = "One row per model, one marker per text.";
  plot.x_title = "mean KL divergence, nats (log scale)";
  return Figure{"texts", draw(plot), data};
}

void add_bins(io::Csv& data, const std::string& label, const record::KlHistogram& h) {
  for (std::size_t b = 0; b < h.counts.size(); ++b) {
    const double from = h.log10_first + h.log10_step * static_cast<double>(b);
    data.rows.push_back({label, fmt::format("{:.4g}", std::pow(10.0, from)),
                         fmt::format("{:.4g}", std::pow(10.0, from + h.log10_step)),
                         std::to_string(h.counts[b])});
  }
}

std::optional<Figure> spread_figure(const record::EvaluationReport& evaluation) {
  SpreadPlot plot;
  io::Csv data{{"model", "kl_from", "kl_to", "tokens"}, {}};
  for (const record::Measurement& model : evaluation.models) {
    if (!model.compared() || !model.kv_cache.empty()) continue;
    const std::string label =
        model.kind == record::ModelKind::kNoiseFloor ? "noise floor" : model.label;
    plot.rows.push_back({label, model.divergence});
    add_bins(data, label, model.divergence.kl_histogram);
  }
  if (plot.rows.empty()) return {};
  plot.title = "Distribution of KL divergence over tokens";
  plot.description = "Histograms over the logarithm of KL divergence, one per model.";
  return Figure{"kl_histogram", draw(plot), data};
}

bool is_plotted(const Point& point) { return point.main() != nullptr && point.main()->has_kl; }

// The usual name if it distinguishes the points: it is shorter than the file's.
std::vector<std::string> short_labels(const std::vector<Point>& points) {
  std::vector<std::string> labels;
  for (const Point& p : points) {
    const auto same = [&](const Point& other) { return other.usual_name == p.usual_name; };
    const bool use_it = p.key_values.empty() && std::ranges::count_if(points, same) == 1;
    labels.push_back(use_it ? p.usual_name : p.label);
  }
  return labels;
}

// Labels all of a few points; of many only those that no other beats, because paper has no
// tooltips.
std::vector<bool> labelled_points(const std::vector<Point>& points) {
  std::vector<bool> labelled(points.size(), points.size() <= kMostLabels);
  std::vector<Cost> costs;
  for (const Point& p : points) costs.push_back({p.bits_per_weight, p.main()->kl_mean.value});
  for (const std::size_t i : pareto_front(costs)) labelled[i] = true;
  return labelled;
}

ParetoPlot plot_of(const std::vector<Point>& points, const ParetoSeries& series, double per_x,
                   bool bits) {
  ParetoPlot plot;
  plot.series = series.names;
  plot.y_title = "KL divergence, nats (log scale)";
  const std::vector<bool> labelled = labelled_points(points);
  const std::vector<std::string> labels = short_labels(points);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Point& p = points[i];
    const Quality& q = *p.main();
    plot.points.push_back({labelled[i] ? labels[i] : "",
                           bits ? p.bits_per_weight : static_cast<double>(p.bytes) / per_x,
                           q.kl_mean.value, q.kl_error(), series.of_point[i], tooltip_of(p)});
  }
  return plot;
}

std::string description_of(const ParetoPlot& plot) {
  std::string text = plot.title + ".";
  for (const ParetoPoint& p : plot.points)
    text += fmt::format(" {}: {}, {}.", p.label, number_text(p.x), number_text(p.y));
  return text;
}

}  // namespace

void add_pareto(Page& page, const std::vector<Point>& all, const ParetoSeries& all_series,
                double source_bits, double noise_floor) {
  std::vector<Point> points;
  ParetoSeries series{{}, all_series.names};
  for (std::size_t i = 0; i < all.size(); ++i)
    if (is_plotted(all[i])) {
      points.push_back(all[i]);
      series.of_point.push_back(all_series.of_point[i]);
    }
  if (points.size() < 2) return;  // one point is a number, not a plot
  const auto most = static_cast<double>(std::ranges::max_element(points, {}, &Point::bytes)->bytes);
  const Unit unit = unit_for(most);
  ParetoPlot bits = plot_of(points, series, 1, true);
  bits.title = "KL divergence against bits per weight";
  bits.x_title = "bits per weight, all tensors";
  if (source_bits > 0) {
    bits.source_x = source_bits;
    bits.source_label = fmt::format("original: {} bits", number_text(source_bits));
  }
  ParetoPlot bytes = plot_of(points, series, unit.bytes, false);
  bytes.title = "KL divergence against size";
  bytes.x_title = fmt::format("size of all tensors, {}", unit.name);
  if (const std::uint64_t source = points.front().base.tensor_bytes; source > 0) {
    bytes.source_x = static_cast<double>(source) / unit.bytes;
    bytes.source_label = "original: " + bytes_text(source);
  }
  for (ParetoPlot* plot : {&bits, &bytes}) {
    if (noise_floor > 0) plot->noise_floor = noise_floor;
    plot->description = description_of(*plot);
  }
  page.section("Error against size");
  page.figures(
      {{"pareto_bits", draw(bits), pareto_data(points)},
       {"pareto_bytes", draw(bytes), pareto_data(points)}},
      "The dashed line connects the models that no other beats in both size and error. Bars: "
      "one standard error, or the spread over replicates.");
}

void add_texts_and_spread(Page& page, const std::vector<Point>& points,
                          const record::EvaluationReport* evaluation) {
  std::vector<Figure> figures;
  std::string caption;
  if (auto texts = texts_figure(points)) {
    figures.push_back(std::move(*texts));
    caption += "The loss depends on the text, so each text is shown separately. ";
  }
  auto spread = evaluation == nullptr ? std::nullopt : spread_figure(*evaluation);
  if (spread) {
    figures.push_back(std::move(*spread));
    caption += fmt::format(
        "Histograms: {}, with mean, median and upper percentiles. A few tokens dominate the mean; "
        "most differ far less.",
        escaped(evaluation_text(*evaluation)));
  }
  if (figures.empty()) return;
  page.section("Error over texts and tokens");
  page.figures(std::move(figures), caption);
}

}  // namespace calque::report
