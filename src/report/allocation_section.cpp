#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "calque/core/units.h"
#include "report/pages.h"
#include "report/row_plots.h"
#include "report/scale.h"

namespace calque::report {
namespace {

using record::AllocatedPart;
using record::Allocation;

// "mlp_in" of "model.layers.3 mlp_in", "ffn_down" of "blk.3.ffn_down.weight".
std::string kind_of(const AllocatedPart& part) {
  if (const std::size_t space = part.name.find(' '); space != std::string::npos)
    return part.name.substr(space + 1);
  const std::string number = fmt::format(".{}.", part.block);
  const std::size_t first = part.name.find(number);
  const std::string tail =
      first == std::string::npos ? part.name : part.name.substr(first + number.size());
  return tail.substr(0, tail.rfind(".weight"));
}

// The smallest option's costs decide the colors: parts that lose most by it are darkest.
class Costs {
 public:
  explicit Costs(const Allocation& allocation) {
    for (const AllocatedPart& part : allocation.parts)
      if (const double cost = part.cost_O.front(); cost > 0) {
        low_ = std::min(low_, cost);
        high_ = std::max(high_, cost);
      }
  }
  double share(double cost) const {
    return cost <= low_ || high_ <= low_ ? 0 : std::log(cost / low_) / std::log(high_ / low_);
  }
  std::vector<std::pair<double, std::string>> legend() const {
    std::vector<std::pair<double, std::string>> marks;
    if (high_ > low_)
      for (const Tick& tick : Scale::log(low_, high_, 0, 1).ticks(9))
        if (!tick.label.empty() && tick.value >= low_ && tick.value <= high_)
          marks.emplace_back(share(tick.value), tick.label);
    return marks;
  }

 private:
  double low_ = 1e300, high_ = 0;
};

std::string unit_of(const Allocation& allocation) { return allocation.measured ? " nats" : ""; }

std::string tooltip_of(const Allocation& allocation, const AllocatedPart& part) {
  std::string text = part.name + ": " + allocation.options[part.chosen];
  for (std::size_t o = 0; o < allocation.options.size(); ++o)
    text +=
        fmt::format("\n{}: {}, {}{}", allocation.options[o], decimal_bytes_text(part.bytes_O[o]),
                    number_text(part.cost_O[o]), unit_of(allocation));
  return text;
}

HeatStrip strip_of(const Allocation& allocation) {
  HeatStrip strip;
  strip.title = "What each part got";
  strip.description = "One row per kind of part, one column per layer.";
  strip.columns_title = "layer";
  std::map<std::string, std::size_t> rows;
  std::map<Index, std::size_t> columns;
  for (const AllocatedPart& part : allocation.parts) {
    if (part.block < 0) continue;
    if (rows.emplace(kind_of(part), strip.rows.size()).second) strip.rows.push_back(kind_of(part));
    if (columns.emplace(part.block, strip.columns.size()).second)
      strip.columns.push_back(std::to_string(part.block));
  }
  strip.cells.assign(strip.rows.size(), std::vector<std::optional<HeatCell>>(strip.columns.size()));
  const Costs costs(allocation);
  for (const AllocatedPart& part : allocation.parts)
    if (part.block >= 0)
      strip.cells[rows.at(kind_of(part))][columns.at(part.block)] =
          HeatCell{costs.share(part.cost_O.front()), allocation.options[part.chosen],
                   tooltip_of(allocation, part)};
  strip.legend = costs.legend();
  return strip;
}

io::Csv data_of(const Allocation& allocation) {
  io::Csv csv{{"part", "block", "chosen"}, {}};
  for (const std::string& option : allocation.options) {
    csv.titles.push_back("bytes_" + option);
    csv.titles.push_back("cost_" + option);
  }
  for (const AllocatedPart& part : allocation.parts) {
    std::vector<std::string> row = {part.name, std::to_string(part.block),
                                    allocation.options[part.chosen]};
    for (std::size_t o = 0; o < allocation.options.size(); ++o) {
      row.push_back(std::to_string(part.bytes_O[o]));
      row.push_back(fmt::format("{:g}", part.cost_O[o]));
    }
    csv.rows.push_back(std::move(row));
  }
  return csv;
}

// Every option for all parts alike beside the choice; and the parts outside the layers.
HtmlTable table_of(const Allocation& allocation) {
  HtmlTable table;
  table.columns = {{"", false},
                   {"option", false},
                   {"bytes"},
                   {"cost" + (allocation.measured ? std::string(", nats") : std::string())}};
  const auto add = [&](const std::string& what, const std::string& option, std::uint64_t bytes,
                       double cost) {
    table.rows.push_back(
        {{escaped(what), escaped(option), decimal_bytes_text(bytes), number_text(cost)}, ""});
  };
  for (std::size_t o = 0; o < allocation.options.size(); ++o) {
    std::uint64_t bytes = allocation.fixed_bytes;
    for (const AllocatedPart& part : allocation.parts) bytes += part.bytes_O[o];
    add("all parts alike", allocation.options[o], bytes, allocation.cost_of(o));
  }
  add("as chosen", "", allocation.bytes(), allocation.cost());
  for (const AllocatedPart& part : allocation.parts)
    if (part.block < 0)
      add(part.name, allocation.options[part.chosen], part.bytes_O[part.chosen],
          part.cost_O[part.chosen]);
  return table;
}

std::string caption_of(const Allocation& allocation) {
  return fmt::format(
      "Color: the cost of {}, the smallest option. {} The choice makes the sum least within {}.",
      allocation.options.front(),
      allocation.measured
          ? "Costs are divergences from the original, with one part alone rounded; rounding that "
            "corrects earlier errors ends below their sum."
          : "Costs are squared errors of the linears' outputs.",
      decimal_bytes_text(allocation.budget_bytes));
}

}  // namespace

void add_allocation(Page& page, const Run& run) {
  const Allocation& allocation = run.allocation;
  if (allocation.empty()) return;
  page.section("Where the bits went");
  if (HeatStrip strip = strip_of(allocation); !strip.rows.empty())
    page.figures({{"allocation", draw(strip), data_of(allocation)}}, caption_of(allocation));
  page.table(table_of(allocation));
  page.folded("The choice as rules of a job file",
              preformatted(fmt::format("{}", fmt::join(allocation.rules, "\n"))));
}

}  // namespace calque::report
