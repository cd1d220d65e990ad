#include "formats/wording.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

namespace calque::formats {
namespace {

// "model.layers.3.mlp" -> "model.layers.*.mlp"
std::string without_numbers(std::string_view path) {
  std::string result;
  std::size_t at = 0;
  while (at <= path.size()) {
    const std::size_t end = std::min(path.find('.', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) {
      return std::isdigit(c) != 0;
    });
    if (!result.empty()) result += '.';
    result += number ? std::string_view("*") : part;
    at = end + 1;
  }
  return result;
}

std::string braces(const std::vector<std::string>& roles) {
  if (roles.size() == 1) return roles.front();
  constexpr std::string_view kSuffix = "_proj";
  const bool all_proj = std::all_of(roles.begin(), roles.end(),
                                    [&](const std::string& r) { return r.ends_with(kSuffix); });
  if (!all_proj) return fmt::format("{{{}}}", fmt::join(roles, ","));
  std::vector<std::string> stems;
  for (const std::string& role : roles)
    stems.push_back(role.substr(0, role.size() - kSuffix.size()));
  return fmt::format("{{{}}}{}", fmt::join(stems, ","), kSuffix);
}

}  // namespace

std::string factorisation(Index n) {
  std::vector<std::string> factors;
  for (Index p = 2; p * p <= n; ++p) {
    int power = 0;
    for (; n % p == 0; n /= p) ++power;
    if (power > 0)
      factors.push_back(power == 1 ? std::to_string(p) : fmt::format("{}^{}", p, power));
  }
  if (n > 1 || factors.empty()) factors.push_back(std::to_string(n));
  return fmt::format("{}", fmt::join(factors, "·"));
}

std::string shape_text(const std::vector<Index>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string alternatives(const std::vector<std::string>& items) {
  if (items.size() == 1) return items.front();
  return fmt::format("{} or {}", fmt::join(items.begin(), items.end() - 1, ", "), items.back());
}

std::string module_pattern(const std::vector<const model::LinearSpec*>& linears) {
  std::vector<std::string> parents;
  std::vector<std::vector<std::string>> roles_of_parent;
  for (const model::LinearSpec* linear : linears) {
    const std::size_t dot = linear->name.rfind('.');
    const std::string parent =
        dot == std::string::npos ? "" : without_numbers(linear->name.substr(0, dot)) + ".";
    const auto found = std::find(parents.begin(), parents.end(), parent);
    const auto at = static_cast<std::size_t>(found - parents.begin());
    if (found == parents.end()) {
      parents.push_back(parent);
      roles_of_parent.emplace_back();
    }
    auto& roles = roles_of_parent[at];
    if (std::find(roles.begin(), roles.end(), linear->role) == roles.end())
      roles.push_back(linear->role);
  }
  std::vector<std::string> patterns;
  for (std::size_t i = 0; i < parents.size(); ++i)
    patterns.push_back(parents[i] + braces(roles_of_parent[i]));
  return fmt::format("{}", fmt::join(patterns, ", "));
}

}  // namespace calque::formats
