#include "report/heat_strip.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/svg_style.h"

namespace calque::report {
namespace {

constexpr double kRowHeight = 21;
constexpr double kTop = 34;
constexpr double kSpaceForCells = 620;
constexpr double kLegendWidth = 84;
constexpr double kCellFont = 10;

// Where cells begin and how wide they are.
struct Geometry {
  double left;
  double cell_width;
  double right() const { return left + cell_width * columns; }
  double columns;
};

Geometry geometry_of(const HeatStrip& strip) {
  double widest = 40;
  for (const std::string& row : strip.rows) widest = std::max(widest, text_width(row, 11));
  const auto columns = static_cast<double>(std::max<std::size_t>(1, strip.columns.size()));
  return {widest + 14, std::clamp(kSpaceForCells / columns, 6.0, 46.0), columns};
}

void draw_cell(Svg& svg, const HeatCell& cell, Xy corner, double width) {
  svg.rect(corner, width, kRowHeight, "cell", ramp_colour(cell.share), cell.tooltip);
  if (cell.text.empty() || text_width(cell.text, kCellFont) > width - 4) return;
  svg.text({corner.x + width / 2, corner.y + kRowHeight / 2 + 3.5}, cell.text,
           cell.share < 0.6 ? "small on-dark" : "small on-light", Anchor::kMiddle);
}

void draw_column_titles(Svg& svg, const HeatStrip& strip, const Geometry& at, double y) {
  double free_from = 0;
  for (std::size_t c = 0; c < strip.columns.size(); ++c) {
    const double x = at.left + (static_cast<double>(c) + 0.5) * at.cell_width;
    const double half = text_width(strip.columns[c], 11) / 2;
    if (x - half < free_from) continue;
    svg.text({x, y}, strip.columns[c], "tick", Anchor::kMiddle);
    free_from = x + half + 5;
  }
  svg.text({(at.left + at.right()) / 2, y + 17}, strip.columns_title, "axis-title",
           Anchor::kMiddle);
}

void draw_legend_bar(Svg& svg, const HeatStrip& strip, double x, double height) {
  constexpr int kPieces = 40;
  for (int i = 0; i < kPieces; ++i) {
    const double share = (i + 0.5) / kPieces;
    svg.rect({x, kTop + height * (1 - (i + 1.0) / kPieces)}, 12, height / kPieces + 0.6, "",
             ramp_colour(share));
  }
  double free_below = 1e9;
  for (const auto& [share, label] : strip.legend) {
    const double y = kTop + height * (1 - share);
    if (y > free_below) continue;
    svg.text({x + 17, y + 4}, label, "tick");
    free_below = y - 13;
  }
}

}  // namespace

Svg draw(const HeatStrip& strip) {
  const Geometry at = geometry_of(strip);
  const double height = kRowHeight * static_cast<double>(strip.rows.size());
  const double title_width = text_width(strip.title, 13) + 12;
  Svg svg(std::max(at.right() + kLegendWidth, title_width), kTop + height + 42, strip.title,
          strip.description);
  svg.text({4, 18}, strip.title, "heading");
  for (std::size_t r = 0; r < strip.rows.size(); ++r) {
    const double y = kTop + kRowHeight * static_cast<double>(r);
    svg.text({at.left - 7, y + kRowHeight / 2 + 4}, strip.rows[r], "tick", Anchor::kEnd);
    for (std::size_t c = 0; c < strip.columns.size(); ++c) {
      const Xy corner{at.left + at.cell_width * static_cast<double>(c), y};
      if (const auto& cell = strip.cells[r][c])
        draw_cell(svg, *cell, corner, at.cell_width);
      else
        svg.rect(corner, at.cell_width, kRowHeight, "cell empty");
    }
  }
  draw_column_titles(svg, strip, at, kTop + height + 15);
  draw_legend_bar(svg, strip, at.right() + 14, height);
  return svg;
}

}  // namespace calque::report
