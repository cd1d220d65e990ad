#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

namespace calque::text {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};

// A map keyed by string that can be looked up by string_view without a copy.
template <typename T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

}  // namespace calque::text
