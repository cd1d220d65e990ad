#include "report/read_modules.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>
#include <sstream>
#include <utility>

namespace calque::report {
namespace {

template <typename T>
T number(const std::string& text) {
  T value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

bool is_number(const std::string& part) {
  return !part.empty() &&
         std::ranges::all_of(part, [](unsigned char c) { return std::isdigit(c) != 0; });
}

Module module_of(const Csv& csv, std::size_t row) {
  Module m;
  m.block = number<int>(csv.cell(row, "block"));
  m.name = csv.cell(row, "module");
  m.role = role_of(m.name);
  m.method = csv.cell(row, "method");
  m.bits = number<int>(csv.cell(row, "bits"));
  m.group_size = number<std::int64_t>(csv.cell(row, "group_size"));
  m.bits_per_weight = number<double>(csv.cell(row, "bpw"));
  m.rel_error = number<double>(csv.cell(row, "rel_error"));
  m.seconds = number<double>(csv.cell(row, "seconds"));
  m.fallback_reason = csv.cell(row, "fallback_reason");
  return m;
}

}  // namespace

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

std::vector<std::vector<Module>> passes_of(const Csv& modules) {
  std::vector<std::vector<Module>> passes;
  std::set<std::string> seen;
  for (std::size_t row = 0; row < modules.rows.size(); ++row) {
    Module module = module_of(modules, row);
    if (passes.empty() || !seen.insert(module.name).second) {
      passes.emplace_back();
      seen = {module.name};
    }
    passes.back().push_back(std::move(module));
  }
  return passes;
}

}  // namespace calque::report
