#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "report/pages.h"
#include "report/row_plots.h"
#include "report/scale.h"

namespace calque::report {
namespace {

// The modules of one cell: a single one, or the experts of a layer.
struct CellModules {
  std::vector<const record::ModuleReport*> modules;
  double mean_error() const {
    double sum = 0;
    for (const record::ModuleReport* m : modules) sum += m->rounding.relative_error;
    return sum / static_cast<double>(modules.size());
  }
};

// Roles in order of appearance, blocks in numerical order.
struct Grid {
  std::vector<std::string> roles;
  std::vector<Index> blocks;
  std::map<std::pair<std::string, Index>, CellModules> cells;
};

bool is_outside_blocks(const record::ModuleReport& m) { return m.role == m.module; }

Grid grid_of(const std::vector<record::ModuleReport>& pass) {
  Grid grid;
  for (const record::ModuleReport& m : pass) {
    if (is_outside_blocks(m)) continue;
    if (std::ranges::find(grid.roles, m.role) == grid.roles.end()) grid.roles.push_back(m.role);
    if (std::ranges::find(grid.blocks, m.block) == grid.blocks.end())
      grid.blocks.push_back(m.block);
    grid.cells[{m.role, m.block}].modules.push_back(&m);
  }
  std::ranges::sort(grid.blocks);
  return grid;
}

// Shortens "self_attn.q_proj" to "q_proj" unless two roles would become the same.
std::string short_role(const std::string& role, const Grid& grid) {
  const std::string last = role.substr(role.rfind('.') + 1);
  const auto same = [&](const std::string& other) {
    return other.substr(other.rfind('.') + 1) == last;
  };
  return std::ranges::count_if(grid.roles, same) == 1 ? last : role;
}

// Range of errors on the logarithmic color ramp, over all passes, so that colors are comparable.
struct ErrorRange {
  double low = 1e300, high = 0;
  double share(double error) const {
    if (error <= low || high <= low) return 0;
    return std::log(error / low) / std::log(high / low);
  }
};

ErrorRange range_of(const Run& run) {
  ErrorRange range;
  for (const auto& pass : run.passes)
    for (const record::ModuleReport& m : pass)
      if (m.rounding.relative_error > 0 && !is_outside_blocks(m)) {
        range.low = std::min(range.low, m.rounding.relative_error);
        range.high = std::max(range.high, m.rounding.relative_error);
      }
  return range;
}

HeatStrip frame_of(const Grid& grid) {
  HeatStrip strip;
  strip.columns_title = "layer";
  for (const Index block : grid.blocks) strip.columns.push_back(std::to_string(block));
  for (const std::string& role : grid.roles) strip.rows.push_back(short_role(role, grid));
  strip.cells.resize(grid.roles.size());
  for (auto& row : strip.cells) row.resize(grid.blocks.size());
  return strip;
}

template <typename MakeCell>
void fill(HeatStrip& strip, const Grid& grid, const MakeCell& make_cell) {
  for (std::size_t r = 0; r < grid.roles.size(); ++r)
    for (std::size_t c = 0; c < grid.blocks.size(); ++c) {
      const auto found = grid.cells.find({grid.roles[r], grid.blocks[c]});
      if (found != grid.cells.end()) strip.cells[r][c] = make_cell(found->second);
    }
}

std::string what(const CellModules& cell) {
  const record::ModuleReport& first = *cell.modules.front();
  return cell.modules.size() == 1
             ? first.module
             : fmt::format("layer {}, {} x {}", first.block, cell.modules.size(), first.role);
}

// "0.014", "9.7e-4": short enough for a cell.
std::string cell_text(double error) {
  if (error >= 1e-3 || error <= 0) return number_text(error, 2);
  std::string text = fmt::format("{:.1e}", error);
  return text.substr(0, 5) + text.substr(text.find_first_not_of('0', 5));
}

HeatStrip error_strip(const Grid& grid, const ErrorRange& range, const std::string& pass) {
  HeatStrip strip = frame_of(grid);
  strip.title = "Relative output error" + pass;
  strip.description = "One row per kind of module, one column per layer.";
  fill(strip, grid, [&](const CellModules& cell) {
    const double error = cell.mean_error();
    const std::string& fallback = cell.modules.front()->rounding.fallback_reason;
    return HeatCell{range.share(error), fallback.empty() ? cell_text(error) : "!",
                    fmt::format("{}: {}{}", what(cell), number_text(error),
                                fallback.empty() ? "" : "\nfell back: " + fallback)};
  });
  if (range.high > range.low)
    for (const Tick& tick : Scale::log(range.low, range.high, 0, 1).ticks(9))
      if (!tick.label.empty() && tick.value >= range.low && tick.value <= range.high)
        strip.legend.emplace_back(range.share(tick.value), tick.label);
  return strip;
}

double bits_share(double bits) { return std::clamp((bits - 2) / 6, 0.0, 1.0); }

HeatStrip bits_strip(const Grid& grid, const std::string& pass) {
  HeatStrip strip = frame_of(grid);
  strip.title = "Bits" + pass;
  strip.description = "Bits per code in every module, without scales.";
  fill(strip, grid, [](const CellModules& cell) {
    const record::ModuleReport& m = *cell.modules.front();
    return HeatCell{bits_share(m.grid.bits), std::to_string(m.grid.bits),
                    fmt::format("{}: {}, {} bits, groups of {}, {} bits/weight with scales",
                                what(cell), m.rounding.method, m.grid.bits, m.grid.group_size,
                                number_text(m.bits_per_weight))};
  });
  for (const int bits : {2, 3, 4, 5, 6, 8})
    strip.legend.emplace_back(bits_share(bits), std::to_string(bits));
  return strip;
}

io::Csv data_of(const std::vector<record::ModuleReport>& pass) {
  io::Csv csv{{"block", "module", "method", "bits", "group_size", "bits_per_weight", "rel_error",
               "fallback_reason"},
              {}};
  for (const record::ModuleReport& m : pass)
    csv.rows.push_back(
        {std::to_string(m.block), m.module, m.rounding.method, std::to_string(m.grid.bits),
         std::to_string(m.grid.group_size), fmt::format("{:g}", m.bits_per_weight),
         fmt::format("{:g}", m.rounding.relative_error), m.rounding.fallback_reason});
  return csv;
}

// Passes come in the order of their exports. If exports share a pass, only the grids are certain.
std::string pass_text(const Run& run, std::size_t i) {
  if (run.passes.size() == 1) return "";
  if (run.passes.size() == run.artifacts.size()) return ", " + run.artifacts[i].name();
  double sum = 0;
  for (const record::ModuleReport& m : run.passes[i]) sum += m.bits_per_weight;
  return fmt::format(", pass {} ({:.2f} bits)", i + 1,
                     sum / static_cast<double>(run.passes[i].size()));
}

std::vector<Figure> strips_of(const Run& run, std::size_t i, const ErrorRange& range) {
  const Grid grid = grid_of(run.passes[i]);
  if (grid.roles.empty()) return {};
  const std::string pass = pass_text(run, i);
  const std::string suffix = run.passes.size() == 1 ? "" : fmt::format("_{}", i + 1);
  const io::Csv data = data_of(run.passes[i]);
  return {{"error_strip" + suffix, draw(error_strip(grid, range, pass)), data},
          {"bits_strip" + suffix, draw(bits_strip(grid, pass)), data}};
}

std::string fallbacks_text(const Run& run) {
  std::size_t count = 0;
  for (const auto& pass : run.passes)
    count += static_cast<std::size_t>(std::ranges::count_if(
        pass, [](const record::ModuleReport& m) { return !m.rounding.fallback_reason.empty(); }));
  if (count == 0) return "No module fell back to rounding to nearest.";
  return fmt::format(
      "{} fell back to rounding to nearest (!): tooltips and CSV files give the reason.",
      count == 1 ? "One module" : fmt::format("{} modules", count));
}

std::string caption_of(const Run& run) {
  return "Relative error of each linear's output on the calibration text: sum of squared errors "
         "over sum of squared outputs. " +
         fallbacks_text(run);
}

}  // namespace

void add_modules(Page& page, const Run& run) {
  if (run.passes.empty()) return;
  page.section("Layer by layer");
  std::vector<std::vector<Figure>> of_pass;
  const ErrorRange range = range_of(run);
  for (std::size_t i = 0; i < run.passes.size(); ++i)
    if (auto figures = strips_of(run, i, range); !figures.empty())
      of_pass.push_back(std::move(figures));
  if (of_pass.empty()) return;
  page.figures(std::move(of_pass.front()), caption_of(run));
  if (of_pass.size() == 1) return;
  page.begin_fold(of_pass.size() == 2
                      ? std::string("The other pass over the model")
                      : fmt::format("The other {} passes over the model", of_pass.size() - 1));
  for (std::size_t i = 1; i < of_pass.size(); ++i) page.figures(std::move(of_pass[i]), "");
  page.end_fold();
}

}  // namespace calque::report
