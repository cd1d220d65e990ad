#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "calque/core/error.h"
#include "calque/study/run_sweep.h"

namespace calque::study {
namespace {

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kConfig, "E192", message);
}

}  // namespace

std::set<int> parse_points(const std::string& text, std::size_t points) {
  std::set<int> numbers;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const std::size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *first < 1 || *last < *first || *last > static_cast<int>(points))
      refuse(
          fmt::format("--only takes numbers of points, such as 3,7-9; '{}' is none of 1 to {} "
                      "(calque sweep FILE --list shows them)",
                      part, points));
    for (int n = *first; n <= *last; ++n) numbers.insert(n);
    begin = end + 1;
  }
  return numbers;
}

void parse_shard(const std::string& text, Selection& selection) {
  const std::size_t slash = text.find('/');
  const auto shard = number(std::string_view(text).substr(0, slash));
  const auto shards =
      slash == std::string::npos ? std::nullopt : number(std::string_view(text).substr(slash + 1));
  if (!shard || !shards || *shard < 0 || *shards < 1 || *shard >= *shards)
    refuse(fmt::format("--shard takes i/n with i from 0 to n - 1, such as 0/4, not '{}'", text));
  selection.shard = *shard;
  selection.shards = *shards;
}

}  // namespace calque::study
