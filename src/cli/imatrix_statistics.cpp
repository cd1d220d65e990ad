#include "cli/imatrix_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cli/text_table.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

// Mean squares of all matrices that have seen at least one token.
std::vector<double> seen(const io::ImatrixEntry& entry) {
  std::vector<double> values;
  for (Index m = 0; m < entry.matrices; ++m) {
    if (entry.counts[static_cast<std::size_t>(m)] <= 0) continue;
    const std::vector<float> mean = entry.mean_square(m);
    values.insert(values.end(), mean.begin(), mean.end());
  }
  return values;
}

double evenness(const std::vector<double>& values, double sum) {
  if (sum <= 0 || values.size() < 2) return 0;
  double entropy = 0;
  for (const double value : values)
    if (value > 0) entropy -= value / sum * std::log(value / sum);
  return entropy / std::log(static_cast<double>(values.size()));
}

std::vector<std::string> row_of(const std::string& name, const io::ImatrixEntry& entry) {
  const std::vector<double> values = seen(entry);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  const double tokens = std::accumulate(entry.counts.begin(), entry.counts.end(), 0.0);
  const auto unused = std::count(entry.counts.begin(), entry.counts.end(), 0.0);
  const double size = std::max<double>(1, static_cast<double>(values.size()));
  const double most = values.empty() ? 0 : *std::max_element(values.begin(), values.end());
  const double zeros = static_cast<double>(std::count(values.begin(), values.end(), 0.0));
  return {printable(name),
          fmt::format("{}", entry.columns()),
          fmt::format("{}", entry.matrices),
          fmt::format("{}", unused),
          fmt::format("{:.0f}", tokens),
          fmt::format("{:.4g}", sum / size),
          fmt::format("{:.4g}", most),
          fmt::format("{:.2f} %", 100 * zeros / size),
          fmt::format("{:.4f}", evenness(values, sum))};
}

}  // namespace

std::string statistics_text(const io::Imatrix& imatrix) {
  TextTable table({{"tensor", TextTable::Align::kLeft},
                   {"columns"},
                   {"matrices"},
                   {"unseen"},
                   {"tokens"},
                   {"mean x^2"},
                   {"largest"},
                   {"zero"},
                   {"evenness"}});
  for (const auto& [name, entry] : imatrix.entries) table.add(row_of(name, entry));
  return table.text();
}

}  // namespace calque::cli
