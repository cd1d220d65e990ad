#include "calque/io/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/sha256.h"
#include "io/resource_error.h"

namespace calque::io {
namespace {

std::string checksum_of(std::string_view record) {
  return sha256_hex(std::as_bytes(std::span(record.data(), record.size()))).substr(0, 16);
}

std::string line_of(std::string_view record) {
  return fmt::format("{} {} {}\n", record.size(), checksum_of(record), record);
}

// The record of a line (given without its line break); nullopt if line_of did not make the line.
std::optional<std::string> record_of(std::string_view line) {
  const std::size_t first = line.find(' ');
  const std::size_t second = line.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) return std::nullopt;
  std::size_t length = 0;
  std::from_chars(line.data(), line.data() + first, length);
  const std::string_view record = line.substr(second + 1);
  if (record.size() != length || line.substr(first + 1, second - first - 1) != checksum_of(record))
    return std::nullopt;
  return std::string(record);
}

}  // namespace

Journal::Journal(std::filesystem::path path, std::string_view first_record)
    : path_(std::move(path)) {
  const std::string line = line_of(first_record);
  write_file(path_, line);
  bytes_ = line.size();
  open();
}

Journal::Journal(std::filesystem::path path) : path_(std::move(path)) {
  const std::string text = read_file(path_);
  while (bytes_ < text.size()) {
    const std::size_t end = text.find('\n', bytes_);
    const bool last = end == std::string::npos || end + 1 == text.size();
    const std::optional<std::string> record =
        end == std::string::npos ? std::nullopt
                                 : record_of(std::string_view(text).substr(bytes_, end - bytes_));
    if (!record && last && !records_.empty()) break;
    if (!record)
      throw Error(ErrorKind::kInput, "E307",
                  fmt::format("{} is damaged at byte {}, so the finished part of the run is "
                              "unknown. Start again with --resume never",
                              path_.string(), bytes_));
    records_.push_back(*record);
    bytes_ = end + 1;
  }
  if (records_.empty())
    throw Error(ErrorKind::kInput, "E307",
                fmt::format("{} is empty, so the finished part of the run is unknown. Start again "
                            "with --resume never",
                            path_.string()));
  open();
}

Journal::Journal(Journal&& other) noexcept
    : path_(std::move(other.path_)),
      records_(std::move(other.records_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(other.bytes_) {}

Journal::~Journal() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void Journal::open() {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor_ < 0) throw_resource_error(path_, "open the file", errno);
  if (::ftruncate(descriptor_, static_cast<off_t>(bytes_)) != 0)
    throw_resource_error(path_, "trim the file", errno);
}

void Journal::append(std::string_view record) {
  const std::string line = line_of(record);
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t wrote = ::pwrite(descriptor_, line.data() + done, line.size() - done,
                                   static_cast<off_t>(bytes_ + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      const int reason = wrote < 0 ? errno : ENOSPC;
      [[maybe_unused]] const int trimmed = ::ftruncate(descriptor_, static_cast<off_t>(bytes_));
      throw_resource_error(path_, "write", reason, line.size() - done);
    }
    done += static_cast<std::size_t>(wrote);
  }
  if (::fdatasync(descriptor_) != 0) {
    const int reason = errno;
    [[maybe_unused]] const int trimmed = ::ftruncate(descriptor_, static_cast<off_t>(bytes_));
    throw_resource_error(path_, "write", reason, line.size());
  }
  bytes_ += line.size();
}

}  // namespace calque::io
