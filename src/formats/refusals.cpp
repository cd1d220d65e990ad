#include "formats/refusals.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::formats {

void Refusals::throw_if_any() const {
  if (reasons_.empty()) return;
  const auto& [code, message] = reasons_.front();
  if (reasons_.size() == 1) throw Error(ErrorKind::kConfig, code, message);

  std::string all = fmt::format("{} things stand in the way of this export:", reasons_.size());
  for (const auto& [each_code, each] : reasons_) all += fmt::format("\n  [{}] {}", each_code, each);
  throw Error(ErrorKind::kConfig, code, all);
}

}  // namespace calque::formats
