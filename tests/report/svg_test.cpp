#include "report/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/pareto_plot.h"
#include "report/row_plots.h"

namespace calque::report {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Escaped, LeavesNothingThatMarkupCouldMistake) {
  EXPECT_EQ(escaped("<b>&\"'\x01"), "&lt;b&gt;&amp;&quot;&#39;?");
}

TEST(Svg, EscapesNamesEverywhere) {
  Svg svg(100, 50, "<b>&\"", "<i>");
  svg.text({1, 2}, "<b>&\"", "label");
  svg.circle({3, 4}, 5, "marker", "<b>&\"");
  for (const std::string& text : {svg.file_text(), svg.inline_text()})
    EXPECT_THAT(
        text, AllOf(Not(HasSubstr("<b>")), HasSubstr("&lt;b&gt;&amp;&quot;"), HasSubstr("<title>"),
                    HasSubstr("<desc>&lt;i&gt;</desc>"), HasSubstr("role=\"img\"")));
}

TEST(Svg, AFileBringsItsStyleForLightAndDark) {
  const std::string text = Svg(10, 10, "t", "d").file_text();
  EXPECT_THAT(text, AllOf(HasSubstr("xmlns=\"http://www.w3.org/2000/svg\""),
                          HasSubstr("prefers-color-scheme: dark")));
}

ParetoPlot three_points() {
  ParetoPlot plot;
  plot.title = "t";
  plot.points = {{"small", 2, 0.1, 0.01}, {"large", 8, 0.001, 0.0001}, {"beaten", 9, 0.05, 0}};
  return plot;
}

TEST(ParetoPlot, NamesEveryPoint) {
  const std::string text = draw(three_points()).inline_text();
  for (const char* name : {">small<", ">large<", ">beaten<"}) EXPECT_THAT(text, HasSubstr(name));
}

TEST(ParetoPlot, AFarOriginalBecomesANote) {
  ParetoPlot plot = three_points();
  plot.source_x = 16;
  plot.source_label = "original: 16 bits";
  EXPECT_THAT(draw(plot).inline_text(),
              AllOf(HasSubstr("original: 16 bits \xE2\x86\x92"), Not(HasSubstr("reference"))));
  plot.source_x = 10;
  EXPECT_THAT(draw(plot).inline_text(), HasSubstr("class=\"reference\""));
}

TEST(ParetoPlot, ALossOfZeroIsDrawnOnTheEdge) {
  ParetoPlot plot = three_points();
  plot.points[1].y = 0;
  EXPECT_THAT(draw(plot).inline_text(), Not(HasSubstr("nan")));
}

TEST(HeatStrip, CellsThatAreMissingAreEmpty) {
  HeatStrip strip;
  strip.title = "errors";
  strip.columns = {"0", "1"};
  strip.rows = {"q_proj"};
  strip.cells = {{HeatCell{0.5, "0.01", "q 0"}, std::nullopt}};
  EXPECT_THAT(draw(strip).inline_text(),
              AllOf(HasSubstr("cell empty"), HasSubstr("fill=\"#21918c\"")));  // viridis at 0.5
}

}  // namespace
}  // namespace calque::report
