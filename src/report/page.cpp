#include "report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/page_style.h"
#include "report/scale.h"
#include "report/svg_style.h"

namespace calque::report {
namespace {

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
