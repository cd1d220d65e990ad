#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "calque/core/units.h"
#include "calque/report/points.h"
#include "report/pages.h"
#include "report/row_plots.h"
#include "report/scale.h"
#include "report/svg.h"

namespace calque::report {
namespace {

// "group_size" for "quantization.group_size".
std::string short_key(const std::string& key) { return key.substr(key.rfind('.') + 1); }

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end) return {};
  return value == -1 ? std::numeric_limits<double>::infinity() : value;
}

// The values of a swept key among the sweep's points: numbers in ascending order with -1 (one group
// per row, the largest) last, other values in order of appearance.
std::vector<std::string> values_of(const Sweep& sweep, const std::string& key) {
  std::vector<std::string> values;
  for (const SweepPoint& point : sweep.points)
    if (std::ranges::find(values, point.cell(key)) == values.end())
      values.push_back(point.cell(key));
  if (std::ranges::all_of(values, [](const std::string& v) { return number_of(v).has_value(); }))
    std::ranges::sort(values, {}, [](const std::string& v) { return *number_of(v); });
  return values;
}

// The key shown by color: one with 2 to 8 values, preferably one that the size axis does not show
// already (as bits and type do). "": none.
std::string colour_key(const Sweep& sweep) {
  std::string any;
  for (const std::string& key : sweep.swept) {
    const std::size_t count = values_of(sweep, key).size();
    if (count < 2 || count > kSeriesCount) continue;
    if (short_key(key) != "bits" && short_key(key) != "type") return key;
    if (any.empty()) any = key;
  }
  return any;
}

// A short form of "reference+statistics"; the caption explains it.
std::string shortened(const std::string& shared) {
  std::string text;
  for (const auto& [name, letters] :
       {std::pair{"tokens", "tok"}, {"reference", "ref"}, {"statistics", "stat"}})
    if (shared.find(name) != std::string::npos)
      text += (text.empty() ? "" : " ") + std::string(letters);
  return text;
}

std::string optional_number(const SweepPoint& point, const std::string& column, int digits = 3) {
  return point.cell(column).empty() ? "" : number_text(point.number_in(column), digits);
}

std::vector<std::string> result_cells(const Sweep& sweep, const SweepPoint& point) {
  const double spread = point.number_in("kl_mean_sd");
  std::vector<std::string> cells = {
      bytes_text(static_cast<std::uint64_t>(point.number_in("tensor_bytes"))),
      fmt::format("{:.3f}", point.number_in("bits_per_weight"))};
  if (point.cell("kl_mean").empty()) {
    cells.insert(cells.end(), 5, "");
  } else {
    cells.push_back(html_with_error(point.number_in("kl_mean"),
                                    spread > 0 ? spread : point.number_in("kl_mean_uncertainty")));
    cells.push_back(optional_number(point, "kl_median"));
    cells.push_back(optional_number(point, "kl_p99"));
    cells.push_back(fmt::format("{:.2f}", 100 * point.number_in("top1_agreement")));
    cells.push_back(html_with_error(point.number_in("ppl"), point.number_in("ppl_uncertainty"), 2));
  }
  for (std::size_t t = 1; t < sweep.texts.size(); ++t)
    cells.push_back(
        html_with_error(point.number_in("kl_mean[" + sweep.texts[t] + "]"),
                        point.number_in("kl_mean_uncertainty[" + sweep.texts[t] + "]")));
  for (const std::string& task : sweep.tasks)
    cells.push_back(point.cell("right[" + task + "]").empty()
                        ? ""
                        : html_with_error(100 * point.number_in("right[" + task + "]"),
                                          100 * point.number_in("right_uncertainty[" + task + "]"),
                                          2));
  cells.push_back(duration_text(point.number_in("seconds")));
  cells.push_back(bytes_text(static_cast<std::uint64_t>(point.number_in("peak_bytes"))));
  cells.push_back(escaped(shortened(point.cell("shared"))));
  return cells;
}

// Numbers of the points that no other beats in both bytes and KL divergence.
std::vector<int> front_numbers(const std::vector<const SweepPoint*>& done) {
  std::vector<Cost> costs;
  std::vector<int> numbers;
  for (const SweepPoint* p : done)
    if (!p->cell("kl_mean").empty()) {
      costs.push_back({p->number_in("tensor_bytes"), p->number_in("kl_mean")});
      numbers.push_back(p->number);
    }
  std::vector<int> front;
  for (const std::size_t i : pareto_front(costs)) front.push_back(numbers[i]);
  return front;
}

bool any_replicates(const Sweep& sweep) {
  return std::ranges::any_of(sweep.points,
                             [](const SweepPoint& p) { return p.number_in("replicates") > 1; });
}

std::vector<const SweepPoint*> with_status(const Sweep& sweep, const std::string& status) {
  std::vector<const SweepPoint*> points;
  for (const SweepPoint& point : sweep.points)
    if (point.status == status) points.push_back(&point);
  return points;
}

// One row per finished point. Points that no other beats in both size and KL divergence stand out.
HtmlTable points_table(const Sweep& sweep) {
  HtmlTable table;
  table.sortable = true;
  table.columns = {{"point"}};
  for (const std::string& key : sweep.swept) table.columns.push_back({escaped(short_key(key))});
  for (const char* title : {"size", "bits/<br>weight", "KL mean", "median", "99 %",
                            "same<br>top&#8209;1, %", "perplexity"})
    table.columns.push_back({title});
  for (std::size_t t = 1; t < sweep.texts.size(); ++t)
    table.columns.push_back({"KL " + escaped(sweep.texts[t])});
  for (const std::string& task : sweep.tasks)
    table.columns.push_back({escaped(task) + ",<br>right %"});
  table.columns.push_back({"time"});
  table.columns.push_back({"peak<br>memory"});
  table.columns.push_back({"taken over", false});
  const auto done = with_status(sweep, "done");
  const std::vector<int> front = front_numbers(done);
  for (const SweepPoint* point : done) {
    HtmlTable::Row row{{std::to_string(point->number)}, ""};
    if (std::ranges::find(front, point->number) != front.end()) row.css_class = "front";
    for (const std::string& key : sweep.swept) row.cells.push_back(escaped(point->cell(key)));
    for (std::string& cell : result_cells(sweep, *point)) row.cells.push_back(std::move(cell));
    table.rows.push_back(std::move(row));
  }
  table.caption = fmt::format(
      "KL divergence in nats on {}; &plusmn;: {}. Numbers in bold: no other point beats them in "
      "both size and KL divergence. Taken over: work shared by another point (tokens, the "
      "reference's states, statistics).",
      escaped(sweep.texts.empty() ? "" : sweep.texts.front()),
      any_replicates(sweep) ? "standard deviation over replicates" : "one standard error");
  return table;
}

// The points that failed, with their errors.
HtmlTable failed_table(const Sweep& sweep) {
  HtmlTable table;
  table.columns = {{"point"}};
  for (const std::string& key : sweep.swept) table.columns.push_back({escaped(short_key(key))});
  table.columns.push_back({"error", false});
  for (const SweepPoint* point : with_status(sweep, "failed")) {
    HtmlTable::Row row{{std::to_string(point->number)}, "failed"};
    for (const std::string& key : sweep.swept) row.cells.push_back(escaped(point->cell(key)));
    row.cells.push_back("<div style=\"white-space:normal;max-width:70ch\">" +
                        escaped(point->error) + "</div>");
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::size_t count(const Sweep& sweep, const std::string& status) {
  return static_cast<std::size_t>(std::ranges::count(sweep.points, status, &SweepPoint::status));
}

double sum_of(const Sweep& sweep, const std::string& column) {
  double sum = 0;
  for (const SweepPoint& point : sweep.points) sum += point.number_in(column);
  return sum;
}

// Seconds of the work that points can share.
double shareable_seconds(const SweepPoint& point) {
  return point.number_in("forward_seconds") + point.number_in("statistics_seconds") +
         point.number_in("evaluate_seconds");
}

// Estimates the extra time that points with shared work would have taken at the others' pace. 0 if
// no point shared anything, or all did.
double saved_seconds(const Sweep& sweep) {
  if (sweep.saved_seconds > 0) return sweep.saved_seconds;
  double own = 0, saved = 0;
  int owners = 0;
  for (const SweepPoint* point : with_status(sweep, "done"))
    if (point->cell("shared").empty()) {
      own += shareable_seconds(*point);
      ++owners;
    }
  if (owners == 0) return 0;
  for (const SweepPoint* point : with_status(sweep, "done"))
    if (!point->cell("shared").empty())
      saved += std::max(0.0, own / owners - shareable_seconds(*point));
  return saved;
}

std::vector<Card> cards_of(const Sweep& sweep, const std::vector<Point>& points) {
  std::vector<Card> cards;
  const std::size_t failed = count(sweep, "failed"), pending = count(sweep, "pending");
  cards.push_back(
      {"points", fmt::format("{} done", count(sweep, "done")),
       fmt::format("{} failed, {} pending, of {}", failed, pending, sweep.points.size())});
  const Point* closest = nullptr;
  const Point* smallest = nullptr;
  for (const Point& p : points) {
    if (p.main() == nullptr || !p.main()->has_kl) continue;
    if (closest == nullptr || p.main()->kl_mean.value < closest->main()->kl_mean.value)
      closest = &p;
    if (smallest == nullptr || p.bytes < smallest->bytes) smallest = &p;
  }
  const auto card = [&](const std::string& title, const Point& p) {
    cards.push_back({title, p.label,
                     fmt::format("{:.2f} bits/weight, {}; KL {}", p.bits_per_weight,
                                 bytes_text(p.bytes), number_text(p.main()->kl_mean.value))});
  };
  if (closest != nullptr) card("closest to the original", *closest);
  if (smallest != nullptr && smallest != closest) card("smallest", *smallest);
  const double saved = saved_seconds(sweep);
  cards.push_back(
      {"time, all points", duration_text(sum_of(sweep, "seconds")),
       saved > 0 ? fmt::format("about {} saved by sharing", duration_text(saved)) : ""});
  return cards;
}

ParetoSeries by_key(const Sweep& sweep, const std::vector<Point>& points) {
  const std::string key = colour_key(sweep);
  ParetoSeries series{std::vector<std::size_t>(points.size(), 0), {}};
  if (key.empty()) return series;
  const auto values = values_of(sweep, key);
  const auto at = std::ranges::find(sweep.swept, key) - sweep.swept.begin();
  for (const std::string& value : values)
    series.names.push_back(series.names.empty() ? short_key(key) + " " + value : value);
  for (std::size_t i = 0; i < points.size(); ++i)
    series.of_point[i] = static_cast<std::size_t>(
        std::ranges::find(values, points[i].key_values[static_cast<std::size_t>(at)]) -
        values.begin());
  return series;
}

// Removes from the labels the key that color and shape show.
std::vector<Point> without_colour_key(const Sweep& sweep, std::vector<Point> points) {
  const std::string key = short_key(colour_key(sweep));
  if (key.empty()) return points;
  for (Point& p : points) {
    const std::size_t begin = p.label.find(key + "=");
    if (begin == std::string::npos) continue;
    const std::size_t end = p.label.find(' ', begin);
    p.label.erase(begin, end == std::string::npos ? end : end + 1 - begin);
  }
  return points;
}

KeyPlot key_plot(const Sweep& sweep, std::size_t key, const std::vector<Point>& points,
                 const ParetoSeries& series) {
  KeyPlot plot;
  plot.title = short_key(sweep.swept[key]);
  plot.description = "KL divergence by " + sweep.swept[key];
  plot.x_title = sweep.swept[key];
  plot.y_title = "KL, nats (log scale)";
  plot.values = values_of(sweep, sweep.swept[key]);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const Point& p = points[i];
    if (p.main() == nullptr || !p.main()->has_kl) continue;
    std::string others;
    for (std::size_t k = 0; k < p.key_values.size(); ++k)
      if (k != key) others += p.key_values[k] + "\n";
    plot.points.push_back(
        {static_cast<std::size_t>(std::ranges::find(plot.values, p.key_values[key]) -
                                  plot.values.begin()),
         p.main()->kl_mean.value, series.of_point[i], others,
         p.label + ": " + number_text(p.main()->kl_mean.value)});
  }
  return plot;
}

io::Csv key_data(const KeyPlot& plot) {
  io::Csv csv{{"value", "kl_mean"}, {}};
  for (const KeyPoint& p : plot.points)
    csv.rows.push_back({plot.values[p.value], fmt::format("{:.6g}", p.y)});
  return csv;
}

void add_keys(Page& page, const Sweep& sweep, const std::vector<Point>& points,
              const ParetoSeries& series) {
  std::vector<Figure> figures;
  for (std::size_t key = 0; key < sweep.swept.size(); ++key) {
    const KeyPlot plot = key_plot(sweep, key, points, series);
    if (plot.values.size() < 2 || plot.points.empty()) continue;
    figures.push_back({"key_" + sweep.swept[key], draw(plot), key_data(plot)});
  }
  if (figures.empty()) return;
  page.section("Effect of each key");
  const std::string key = colour_key(sweep);
  page.figures(
      std::move(figures),
      fmt::format("Lines connect points that differ only in this key.{}",
                  key.empty() ? "" : " Colors and shapes as above: " + escaped(key) + "."));
}

void add_provenance(Page& page, const Sweep& sweep) {
  page.section("How it was made");
  std::string facts;
  if (sweep.first_run) {
    if (!sweep.first_run->source_name.empty())
      facts += "<dt>original</dt><dd>" + escaped(sweep.first_run->source_name) + "</dd>\n";
    if (!sweep.first_run->calque_version.empty())
      facts += "<dt>calque</dt><dd>" + escaped(sweep.first_run->calque_version) + "</dd>\n";
  }
  facts +=
      "<dt>repeat</dt><dd><code>calque sweep sweep.resolved.yaml</code>; each point's own job is "
      "<code>points/HASH/job.resolved.yaml</code></dd>\n";
  page.html("<dl>\n" + facts + "</dl>\n");
  if (sweep.first_run) page.html(data_table(*sweep.first_run));
  if (!sweep.resolved.empty())
    page.folded("The sweep (sweep.resolved.yaml)", preformatted(sweep.resolved));
  if (sweep.first_run && !sweep.first_run->resolved_job.empty())
    page.folded("The first point's job with every setting",
                preformatted(sweep.first_run->resolved_job));
}

double noise_floor(const Sweep& sweep) {
  if (!sweep.first_run || sweep.first_run->evaluations.empty()) return 0;
  const record::Measurement* floor =
      sweep.first_run->evaluations.front().find(record::ModelKind::kNoiseFloor);
  return floor != nullptr ? floor->divergence.kl_mean : 0;
}

}  // namespace

Page sweep_page(const Sweep& sweep) {
  Page page(sweep.name + " \xE2\x80\x93 calque sweep");
  std::string keys;
  for (const std::string& key : sweep.swept) keys += (keys.empty() ? "" : " \xC3\x97 ") + key;
  page.html(fmt::format("<h1>{}</h1>\n<div class=\"sub\">Sweep over {}</div>\n",
                        escaped(sweep.name), escaped(keys)));
  const std::vector<Point> points = points_of(sweep);
  const ParetoSeries series = by_key(sweep, points);
  page.cards(cards_of(sweep, points));
  const double source_bits = sweep.first_run ? sweep.first_run->source_bits_per_weight : 0;
  add_pareto(page, without_colour_key(sweep, points), series, source_bits, noise_floor(sweep));
  add_keys(page, sweep, points, series);
  add_texts_and_spread(page, points, nullptr);
  if (const HtmlTable done = points_table(sweep); !done.rows.empty()) {
    page.section("All points that are done");
    page.table(done);
  }
  if (const HtmlTable failed = failed_table(sweep); !failed.rows.empty()) {
    page.section("Failed points");
    page.table(failed);
  }
  add_provenance(page, sweep);
  return page;
}

}  // namespace calque::report
