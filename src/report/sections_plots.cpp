#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "calque/core/units.h"
#include "report/pareto_plot.h"
#include "report/row_plots.h"
#include "report/scale.h"
#include "report/sections.h"
#include "report/spread_plot.h"

namespace calque::report {
namespace {

constexpr std::size_t kMostLabels = 16;  // more would be a cloud of words

// Bytes in the unit that gives the largest point 1 to 1000.
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

// A row a model. None where there is only one text, or more rows than can be told apart.
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
  plot.description = "A row a model, a marker a text.";
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
  plot.title = "How KL divergence is spread over tokens";
  plot.description = "Histograms over the logarithm of KL divergence, one a model.";
  return Figure{"kl_histogram", draw(plot), data};
}

bool is_plotted(const Point& point) { return point.main() != nullptr && point.main()->has_kl; }

// The usual name where it tells the points apart: shorter than the file's.
std::vector<std::string> short_labels(const std::vector<Point>& points) {
  std::vector<std::string> labels;
  for (const Point& p : points) {
    const auto same = [&](const Point& other) { return other.usual_name == p.usual_name; };
    const bool use_it = p.key_values.empty() && std::ranges::count_if(points, same) == 1;
    labels.push_back(use_it ? p.usual_name : p.label);
  }
  return labels;
}

// All of a few; of many those that no other beats, whose tooltips are not enough on paper.
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
  bits.x_title = "bits per weight, everything counted";
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
  page.figures({{"pareto_bits", draw(bits), pareto_data(points)},
                {"pareto_bytes", draw(bytes), pareto_data(points)}},
               "The dashed line joins the models that no other beats in both size and error. Bars: "
               "one standard error, or the spread over replicates.");
}

void add_texts_and_spread(Page& page, const std::vector<Point>& points,
                          const record::EvaluationReport* evaluation) {
  std::vector<Figure> figures;
  std::string caption;
  if (auto texts = texts_figure(points)) {
    figures.push_back(std::move(*texts));
    caption += "Loss depends on what is read: each text on its own. ";
  }
  auto spread = evaluation == nullptr ? std::nullopt : spread_figure(*evaluation);
  if (spread) {
    figures.push_back(std::move(*spread));
    caption += fmt::format(
        "Histograms: {}, mean, median and upper percentiles marked. Few tokens "
        "make the mean; most differ far less.",
        escaped(evaluation_text(*evaluation)));
  }
  if (figures.empty()) return;
  page.section("Error over texts and tokens");
  page.figures(std::move(figures), caption);
}

}  // namespace calque::report
