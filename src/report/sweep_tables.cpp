#include "report/sweep_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "calque/core/units.h"
#include "calque/report/points.h"
#include "report/scale.h"
#include "report/sweep_keys.h"

namespace calque::report {
namespace {

// "reference+statistics" in few letters; the caption tells them.
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

}  // namespace

std::vector<const SweepPoint*> with_status(const Sweep& sweep, const std::string& status) {
  std::vector<const SweepPoint*> points;
  for (const SweepPoint& point : sweep.points)
    if (point.status == status) points.push_back(&point);
  return points;
}

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
      "both "
      "size and KL divergence. Taken over: what another point had computed (tokens, the "
      "reference's states, statistics).",
      escaped(sweep.texts.empty() ? "" : sweep.texts.front()),
      any_replicates(sweep) ? "standard deviation over replicates" : "one standard error");
  return table;
}

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

}  // namespace calque::report
