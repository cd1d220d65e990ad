#include "formats/messages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/core/error.h"

namespace calque::formats {

void Refusals::throw_if_any() const {
  if (reasons_.empty()) return;
  const auto& [code, message] = reasons_.front();
  if (reasons_.size() == 1) throw Error(ErrorKind::kConfig, code, message);

  std::string all = fmt::format("this export is not possible for {} reasons:", reasons_.size());
  for (const auto& [each_code, each] : reasons_) all += fmt::format("\n  [{}] {}", each_code, each);
  throw Error(ErrorKind::kConfig, code, all);
}

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

}  // namespace calque::formats
