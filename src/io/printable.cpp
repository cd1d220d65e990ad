#include "io/printable.h"

#include <fmt/format.h>

namespace calque::io {

std::string printable(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string result = "'";
  for (const char c : text.substr(0, kShown)) {
    const bool plain = c >= ' ' && c <= '~';
    result += plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return result + (text.size() > kShown ? "...'" : "'");
}

}  // namespace calque::io
