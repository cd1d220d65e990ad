#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/io/csv.h"
#include "report/svg.h"

namespace calque::report {

// A plot of the page that is also a file, and the numbers behind it.
struct Figure {
  std::string name;  // "pareto_bits": of the .svg and the .csv
  Svg svg;
  io::Csv data;
};

// A table of the page. Cells are HTML, made with escaped() or the helpers below.
struct HtmlTable {
  struct Column {
    std::string title;  // HTML, too
    bool number = true;
  };
  std::vector<Column> columns;
  struct Row {
    std::vector<std::string> cells;
    std::string css_class;
  };
  std::vector<Row> rows;
  std::string caption;  // HTML
  bool sortable = false;
};
std::string html_of(const HtmlTable& table);

// A number in large type, its name, and a line of small print; all plain text.
struct Card {
  std::string title;
  std::string value;
  std::string note;
};

// A page, section by section.
class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}

  void section(std::string_view heading);
  void html(std::string_view text);       // as it is
  void paragraph(std::string_view text);  // HTML inside
  void cards(const std::vector<Card>& cards);
  void table(const HtmlTable& table) { html(html_of(table)); }
  // Figures stand side by side if there is room. `caption` is HTML.
  void figures(std::vector<Figure> figures, std::string_view caption);
  // Content up to the end of the fold is hidden until it is clicked or printed.
  void begin_fold(std::string_view summary);
  void end_fold();
  void folded(std::string_view summary, std::string_view html_text);

  const std::vector<Figure>& all_figures() const { return figures_; }
  // The page as one file that needs no other.
  std::string text() const;

 private:
  std::string title_;
  std::string body_;
  std::vector<Figure> figures_;
};

// "0.00374 ± 0.00004" with the error in small print: enough decimals to show the error's first
// digit, at least `decimals`. Without an error: three significant digits.
std::string html_with_error(double value, double error, int decimals = 0);
// The same as plain text.
std::string text_with_error(double value, double error, int decimals = 0);
// "<pre>", escaped.
std::string preformatted(std::string_view text);

}  // namespace calque::report
