#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/scale.h"
#include "report/svg.h"

namespace calque::report {
namespace {

// Used in addition to kColourStyle and kPlotStyle.
constexpr std::string_view kPageStyle = R"(* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 64px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 10px; padding-bottom: 5px; border-bottom: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 24px 0 6px; }
p { margin: 8px 0; max-width: 78ch; }
.note, figcaption { max-width: 110ch; }
a { color: var(--accent); }
.sub, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: 13px; }
.banner { border-left: 4px solid var(--s1); background: var(--panel); padding: 8px 14px; margin: 16px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 12px; margin: 20px 0 8px; }
.card { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; padding: 11px 14px 12px; min-width: 0; }
.card .name { font-size: 12px; color: var(--muted); }
.card .value { font-size: 22px; line-height: 1.3; font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.card .value.long { font-size: 16px; line-height: 1.6; }
.card .small { font-size: 12.5px; color: var(--muted); overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 6px; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--rule); vertical-align: bottom; }
th.n, td.n { text-align: right; }
td.wrap { white-space: normal; min-width: 26ch; max-width: 60ch; overflow-wrap: anywhere; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
tr.original td { color: var(--muted); }
tr.front td:first-child { font-weight: 600; }
tr.failed td { color: var(--s1); }
td small { color: var(--muted); font-size: 11px; }
table.sortable th { cursor: pointer; }
table.sortable th:hover { color: var(--ink); text-decoration: underline; }
figure { margin: 14px 0; }
.figures { display: flex; flex-wrap: wrap; gap: 10px 26px; align-items: flex-start; }
.figures > div { min-width: 0; max-width: 100%; }
svg.plot { width: 100%; height: auto; display: block; }
.files { font-size: 11.5px; color: var(--muted); }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; padding: 10px 12px; overflow-x: auto; font: 12px/1.45 ui-monospace, "Liberation Mono", monospace; }
code { font: 12.5px ui-monospace, "Liberation Mono", monospace; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; font-size: 13.5px; margin: 10px 0; }
dt { color: var(--muted); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 18px 14px 40px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 6px; }
  .wide { overflow-x: auto; } .wide > svg.plot { min-width: 620px; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  body { font-size: 11px; } main { max-width: none; padding: 0; }
  h1 { font-size: 20px; } h2 { font-size: 14px; margin-top: 20px; break-after: avoid; } h3 { break-after: avoid; }
  figure, .card, tr, .figures > div { break-inside: avoid; }
  .cards { grid-template-columns: repeat(4, 1fr); gap: 6px; } .card { padding: 6px 8px; } .card .value { font-size: 15px; }
  .scroll { overflow: visible; } table { font-size: 8.5px; } th, td { padding: 2px 5px; } td small { font-size: 7.5px; }
  th:first-child, td:first-child { position: static; }
  .files, summary { display: none; }
  .figures { gap: 8px 18px; } .figures > div { flex: 0 1 calc(50% - 10px) !important; } .figures > div.wide { flex-basis: 100% !important; }
  pre { white-space: pre-wrap; font-size: 8px; columns: 2; border: none; padding: 0; }
}
)";

// Sorts tables by a click on their titles; opens folded parts for printing.
constexpr std::string_view kPageScript =
    R"(document.querySelectorAll('table.sortable th').forEach(function (th) {
  th.addEventListener('click', function () {
    var body = th.closest('table').tBodies[0], at = th.cellIndex;
    var down = th.dataset.sorted === 'up';
    th.parentNode.querySelectorAll('th').forEach(function (other) { delete other.dataset.sorted; });
    th.dataset.sorted = down ? 'down' : 'up';
    var key = function (row) { return row.cells[at].dataset.v || row.cells[at].textContent; };
    Array.from(body.rows).sort(function (a, b) {
      var x = key(a), y = key(b), p = parseFloat(x), q = parseFloat(y);
      var order = isNaN(p) || isNaN(q) ? x.localeCompare(y) : p - q;
      return down ? -order : order;
    }).forEach(function (row) { body.appendChild(row); });
  });
});
addEventListener('beforeprint', function () {
  document.querySelectorAll('details').forEach(function (d) { d.open = true; });
});
)";

constexpr double kSmall = 1e-4;    // below, numbers are written as 8.25e-6
constexpr double kWideFrom = 600;  // pixels; such plots scroll on narrow screens

int decimals_for(double error, int least) {
  return std::clamp(static_cast<int>(-std::floor(std::log10(error))), least, 9);
}

struct WithError {
  std::string value, error;
};

WithError with_error(double value, double error, int decimals) {
  if (error <= 0 || !std::isfinite(error))
    return {decimals > 0 ? fmt::format("{:.{}f}", value, decimals) : number_text(value), ""};
  if (decimals == 0 && value < kSmall && error < value) {
    const int digits =
        1 + static_cast<int>(std::floor(std::log10(value)) - std::floor(std::log10(error)));
    return {number_text(value, digits), number_text(error, 1)};
  }
  const int places = decimals_for(error, decimals);
  return {fmt::format("{:.{}f}", value, places), fmt::format("{:.{}f}", error, places)};
}

std::string card_html(const Card& card) {
  const bool is_long = card.value.size() > 14;
  return fmt::format(
      "<div class=\"card\"><div class=\"name\">{}</div><div class=\"value{}\">{}</div>"
      "<div class=\"small\">{}</div></div>\n",
      escaped(card.title), is_long ? " long" : "", escaped(card.value), escaped(card.note));
}

}  // namespace

std::string html_of(const HtmlTable& table) {
  std::string text =
      fmt::format("<div class=\"scroll\"><table{}>\n", table.sortable ? " class=\"sortable\"" : "");
  text += "<thead><tr>";
  for (const HtmlTable::Column& column : table.columns)
    text += fmt::format("<th scope=\"col\"{}>{}</th>", column.number ? " class=\"n\"" : "",
                        column.title);
  text += "</tr></thead>\n<tbody>\n";
  for (const HtmlTable::Row& row : table.rows) {
    text += row.css_class.empty() ? "<tr>" : "<tr class=\"" + row.css_class + "\">";
    for (std::size_t c = 0; c < row.cells.size(); ++c)
      text +=
          fmt::format("<td{}>{}</td>", table.columns[c].number ? " class=\"n\"" : "", row.cells[c]);
    text += "</tr>\n";
  }
  text += "</tbody></table></div>\n";
  return table.caption.empty() ? text : text + "<p class=\"note\">" + table.caption + "</p>\n";
}

void Page::section(std::string_view heading) {
  body_ += fmt::format("<h2>{}</h2>\n", escaped(heading));
}

void Page::html(std::string_view text) { body_ += text; }

void Page::paragraph(std::string_view text) { body_ += fmt::format("<p>{}</p>\n", text); }

void Page::cards(const std::vector<Card>& cards) {
  body_ += "<div class=\"cards\">\n";
  for (const Card& card : cards) body_ += card_html(card);
  body_ += "</div>\n";
}

void Page::figures(std::vector<Figure> figures, std::string_view caption) {
  body_ += "<figure><div class=\"figures\">\n";
  for (Figure& figure : figures) {
    body_ += fmt::format(
        "<div{2} style=\"flex:0 1 {3:.0f}px\">{1}<span class=\"files\"><a href=\"{0}.svg\">SVG</a> "
        "\xC2\xB7 "
        "<a href=\"{0}.csv\">CSV</a></span></div>\n",
        escaped(figure.name), figure.svg.inline_text(),
        figure.svg.width() > kWideFrom ? " class=\"wide\"" : "", figure.svg.width());
    figures_.push_back(std::move(figure));
  }
  body_ += "</div>";
  if (!caption.empty()) body_ += fmt::format("<figcaption>{}</figcaption>", caption);
  body_ += "</figure>\n";
}

void Page::begin_fold(std::string_view summary) {
  body_ += fmt::format("<details><summary>{}</summary>\n", escaped(summary));
}

void Page::end_fold() { body_ += "</details>\n"; }

void Page::folded(std::string_view summary, std::string_view html_text) {
  begin_fold(summary);
  html(html_text);
  end_fold();
}

std::string Page::text() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n<style>\n{}\n{}{}</style>\n</head>\n<body>\n<main>\n{}</main>\n"
      "<script>\n{}</script>\n</body>\n</html>\n",
      escaped(title_), kColourStyle, kPlotStyle, kPageStyle, body_, kPageScript);
}

std::string html_with_error(double value, double error, int decimals) {
  const WithError text = with_error(value, error, decimals);
  return text.error.empty() ? text.value
                            : fmt::format("{} <small>\xC2\xB1 {}</small>", text.value, text.error);
}

std::string text_with_error(double value, double error, int decimals) {
  const WithError text = with_error(value, error, decimals);
  return text.error.empty() ? text.value : text.value + " \xC2\xB1 " + text.error;
}

std::string preformatted(std::string_view text) { return "<pre>" + escaped(text) + "</pre>\n"; }

}  // namespace calque::report
