#include "calque/io/state_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "calque/core/error.h"
#include "io/resource_error.h"

namespace calque::io {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

struct Trailer {
  std::uint64_t bytes = 0;
  std::uint64_t checksum = 0;
};

// FNV's mixing step over 64-bit words: a gigabyte takes a fraction of a second. It is meant to
// detect files that were cut or overwritten. `bytes` is one kPiece, or the rest.
std::uint64_t mixed(std::uint64_t checksum, std::span<const std::byte> bytes) {
  constexpr std::uint64_t kPrime = 0x100000001b3;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), sizeof(std::uint64_t)))) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), std::min(bytes.size(), sizeof(word)));
    checksum = (checksum ^ word) * kPrime;
    checksum ^= checksum >> 32;
  }
  return checksum;
}

[[noreturn]] void throw_damaged(const std::filesystem::path& path) {
  throw Error(ErrorKind::kInput, "E307",
              fmt::format("{} is damaged, so the run cannot be resumed. Start again with --resume "
                          "never",
                          path.string()));
}

const std::filesystem::path& existing(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) throw_missing_part(path, "is missing");
  return path;
}

}  // namespace

StateFileWriter::StateFileWriter(const std::filesystem::path& path) : file_(path) {
  pending_.reserve(kPiece);
}

void StateFileWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t count = std::min(bytes.size(), kPiece - pending_.size());
    pending_.insert(pending_.end(), bytes.begin(),
                    bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    if (pending_.size() == kPiece) flush();
  }
}

void StateFileWriter::flush() {
  checksum_ = mixed(checksum_, pending_);
  bytes_ += pending_.size();
  file_.append(pending_);
  pending_.clear();
}

void StateFileWriter::commit() {
  flush();
  const Trailer trailer{bytes_, checksum_};
  file_.append(std::as_bytes(std::span(&trailer, 1)));
  file_.commit();
}

StateFileReader::StateFileReader(const std::filesystem::path& path)
    : path_(existing(path)), file_(path) {
  Trailer trailer;
  const std::span<const std::byte> all = file_.bytes();
  if (all.size() < sizeof(trailer)) throw_damaged(path_);
  left_ = all.first(all.size() - sizeof(trailer));
  std::memcpy(&trailer, all.data() + left_.size(), sizeof(trailer));
  if (trailer.bytes != left_.size() || trailer.checksum != mixed(0, left_)) throw_damaged(path_);
}

void StateFileReader::read(std::span<std::byte> bytes) {
  if (bytes.size() > left_.size()) throw_damaged(path_);
  if (!bytes.empty()) std::memcpy(bytes.data(), left_.data(), bytes.size());
  left_ = left_.subspan(bytes.size());
}

void StateFileReader::finish() const {
  if (!left_.empty()) throw_damaged(path_);
}

}  // namespace calque::io
