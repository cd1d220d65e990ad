#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "calque/core/paths.h"
#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/report/record.h"
#include "report/csv.h"

namespace calque::report {
namespace {

namespace fs = std::filesystem;

// Swept keys stand between `error` and `method`.
std::vector<std::string> swept_keys(const Csv& csv, const fs::path& path) {
  const int first = csv.column("error") + 1;
  const int last = csv.column("method");
  if (first == 0 || last < first)
    throw Error(ErrorKind::kInput, "E252",
                fmt::format("{}:1: not the table of a sweep (columns point, hash, status, error, "
                            "..., method); repeat 'calque sweep', which writes it anew",
                            path.string()));
  return {csv.titles.begin() + first, csv.titles.begin() + last};
}

// The main text by the first row that names it; further ones by their columns "kl_mean[NAME]".
std::vector<std::string> texts_in(const Csv& csv) {
  std::vector<std::string> texts(1);
  for (std::size_t row = 0; row < csv.rows.size() && texts.front().empty(); ++row)
    texts.front() = csv.cell(row, "text");
  constexpr std::string_view kBefore = "kl_mean[";
  for (const std::string& title : csv.titles)
    if (title.starts_with(kBefore) && title.ends_with(']'))
      texts.push_back(title.substr(kBefore.size(), title.size() - kBefore.size() - 1));
  return texts;
}

SweepPoint point_of(const Csv& csv, std::size_t row) {
  SweepPoint point;
  for (std::size_t c = 0; c < csv.titles.size(); ++c) point.cells[csv.titles[c]] = csv.rows[row][c];
  point.number = static_cast<int>(point.number_in("point"));
  point.hash = point.cell("hash");
  point.status = point.cell("status");
  point.error = point.cell("error");
  return point;
}

// The points' runs, replicates apart, say what sharing saved each.
double saved_seconds(const fs::path& path) {
  if (!fs::exists(path)) return 0;
  const Csv runs = read_csv(path);
  double sum = 0;
  for (std::size_t row = 0; row < runs.rows.size(); ++row) {
    const std::string& cell = runs.cell(row, "saved_seconds");
    double seconds = 0;
    std::from_chars(cell.data(), cell.data() + cell.size(), seconds);
    sum += seconds;
  }
  return sum;
}

std::optional<Run> first_run(const Sweep& sweep) {
  for (const SweepPoint& point : sweep.points) {
    const fs::path folder = sweep.folder / "points" / point.hash;
    if (point.status == "done" && fs::exists(folder / "metrics.json")) return load_run(folder);
  }
  return {};
}

}  // namespace

std::string SweepPoint::cell(const std::string& column) const {
  const auto found = cells.find(column);
  return found == cells.end() ? "" : found->second;
}

double SweepPoint::number_in(const std::string& column) const {
  const std::string text = cell(column);
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

Sweep load_sweep(const fs::path& folder) {
  Sweep sweep;
  sweep.folder = folder;
  sweep.name = last_name(folder);
  if (fs::exists(folder / "sweep.resolved.yaml"))
    sweep.resolved = io::read_file(folder / "sweep.resolved.yaml");
  const fs::path path = folder / "results.csv";
  if (!fs::exists(path)) return sweep;
  const Csv csv = read_csv(path);
  sweep.swept = swept_keys(csv, path);
  sweep.texts = texts_in(csv);
  for (std::size_t row = 0; row < csv.rows.size(); ++row)
    sweep.points.push_back(point_of(csv, row));
  sweep.saved_seconds = saved_seconds(folder / "runs.csv");
  sweep.first_run = first_run(sweep);
  return sweep;
}

}  // namespace calque::report
