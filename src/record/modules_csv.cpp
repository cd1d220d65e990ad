#include "calque/record/modules_csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>
#include <sstream>
#include <utility>

namespace calque::record {
namespace {

double bits_per_weight(const quant::Grid& grid, Index out_features, Index in_features) {
  if (grid.block)
    return 8.0 * static_cast<double>(ggml::row_bytes(*grid.block, in_features)) /
           static_cast<double>(in_features);
  // A scale of 16 (or 32) bits per group, and an offset unless the middle code replaces it.
  const double scale_bits = grid.precision == ScalePrecision::kF32 ? 32 : 16;
  const double offset_bits = grid.offset_kind == OffsetKind::kMinimum     ? scale_bits
                             : grid.offset_kind == OffsetKind::kZeroPoint ? grid.bits
                                                                          : 0;
  return grid.bits +
         (scale_bits + offset_bits) / static_cast<double>(grid.group_size_for(in_features) *
                                                          grid.scale_rows_for(out_features));
}

template <typename T>
T number(const io::Csv& csv, std::size_t row, const char* title) {
  const std::string& text = csv.cell(row, title);
  T value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

ModuleReport module_from(const io::Csv& csv, std::size_t row) {
  ModuleReport m;
  m.block = number<Index>(csv, row, "block");
  m.module = csv.cell(row, "module");
  m.role = role_of(m.module);
  m.grid.bits = number<int>(csv, row, "bits");
  m.grid.group_size = number<Index>(csv, row, "group_size");
  m.bits_per_weight = number<double>(csv, row, "bpw");
  m.rounding.method = csv.cell(row, "method");
  m.rounding.loss = number<double>(csv, row, "loss");
  m.rounding.relative_error = number<double>(csv, row, "rel_error");
  m.rounding.damp_percent = number<double>(csv, row, "damp_percent");
  m.rounding.dead_columns = number<Index>(csv, row, "dead_columns");
  m.rounding.fallback_reason = csv.cell(row, "fallback_reason");
  m.tokens = number<Index>(csv, row, "tokens");
  m.nonfinite_tokens = number<Index>(csv, row, "nonfinite_tokens");
  m.seconds = number<double>(csv, row, "seconds");
  m.upstream_shift = number<double>(csv, row, "upstream_shift");
  return m;
}

bool is_number(const std::string& part) {
  return !part.empty() &&
         std::ranges::all_of(part, [](unsigned char c) { return std::isdigit(c) != 0; });
}

}  // namespace

std::string modules_csv_header() {
  return "block,module,method,bits,group_size,params,bpw,loss,rel_error,tokens,"
         "nonfinite_tokens,damp_percent,dead_columns,seconds,fallback_reason,upstream_shift\n";
}

std::string modules_csv_row(const ModuleReport& m) {
  const quant::RoundingReport& r = m.rounding;
  return io::csv_line(
      {fmt::format("{}", m.block), m.module, r.method, fmt::format("{}", m.grid.bits),
       fmt::format("{}", m.grid.group_size_for(m.in_features)),
       fmt::format("{}", m.out_features * m.in_features),
       fmt::format("{:.4f}", bits_per_weight(m.grid, m.out_features, m.in_features)),
       fmt::format("{:.6g}", r.loss), fmt::format("{:.6g}", r.relative_error),
       fmt::format("{}", m.tokens), fmt::format("{}", m.nonfinite_tokens),
       fmt::format("{:g}", r.damp_percent), fmt::format("{}", r.dead_columns),
       fmt::format("{:.3f}", m.seconds), r.fallback_reason,
       fmt::format("{:.4g}", m.upstream_shift)});
}

std::vector<std::vector<ModuleReport>> passes_from(const io::Csv& modules) {
  std::vector<std::vector<ModuleReport>> passes;
  std::set<std::string> seen;
  for (std::size_t row = 0; row < modules.rows.size(); ++row) {
    ModuleReport module = module_from(modules, row);
    if (passes.empty() || !seen.insert(module.module).second) {
      passes.emplace_back();
      seen = {module.module};
    }
    passes.back().push_back(std::move(module));
  }
  return passes;
}

std::string role_of(const std::string& module) {
  std::istringstream parts(module);
  std::string part, role;
  bool in_block = false;
  while (std::getline(parts, part, '.')) {
    if (!is_number(part)) {
      role += (role.empty() ? "" : ".") + part;
    } else if (!std::exchange(in_block, true)) {
      role.clear();
    }
  }
  return in_block ? role : module;
}

}  // namespace calque::record
