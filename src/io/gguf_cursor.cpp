#include "io/gguf_cursor.h"

#include <fmt/format.h>

#include "calque/core/error.h"

namespace calque::io {
namespace {

constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 30;  // as ggml's reader

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

}  // namespace

void GgufCursor::require(std::uint64_t bytes, std::string_view what) const {
  if (bytes <= left()) return;
  refuse(
      fmt::format("the file ends inside {}: {} bytes needed at offset {}, {} left; is the "
                  "download complete?",
                  what, bytes, position_, left()));
}

std::string GgufCursor::string(std::string_view what) {
  const auto length = number<std::uint64_t>(what);
  if (length > kMaxStringBytes)
    refuse(fmt::format("{}: a text of {} bytes is above the limit of {}", what, length,
                       kMaxStringBytes));
  require(length, what);
  const auto* start = reinterpret_cast<const char*>(bytes_.data() + position_);
  position_ += length;
  return {start, static_cast<std::size_t>(length)};
}

void GgufCursor::check_count(std::uint64_t count, std::uint64_t bytes_each,
                             std::string_view what) const {
  if (count <= left() / bytes_each) return;
  refuse(
      fmt::format("{}: a count of {} needs at least {} bytes each, {} bytes are left in the file",
                  what, count, bytes_each, left()));
}

}  // namespace calque::io
