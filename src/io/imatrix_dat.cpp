// The older format (formats_gguf.md section 6.2): of each entry a name, a number of chunks, and per
// column the mean square times that number.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "io/gguf_cursor.h"
#include "io/imatrix_formats.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

// A count that cannot be met by what is left of the file is no count.
std::uint64_t read_count(GgufCursor& cursor, std::uint64_t bytes_each, const std::string& what) {
  const auto count = cursor.number<std::int32_t>(what);
  if (count < 0) refuse(fmt::format("{}: a count of {}", what, count));
  cursor.check_count(static_cast<std::uint64_t>(count), bytes_each, what);
  return static_cast<std::uint64_t>(count);
}

std::string read_name(GgufCursor& cursor, const std::string& what) {
  std::string name(read_count(cursor, 1, what), '\0');
  for (char& letter : name) letter = cursor.number<char>(what);
  return name;
}

ImatrixEntry read_entry(GgufCursor& cursor, const std::string& what) {
  const auto calls = cursor.number<std::int32_t>(what);
  if (calls < 0) refuse(fmt::format("{}: {} chunks", what, calls));
  const std::uint64_t columns = read_count(cursor, sizeof(float), what);
  ImatrixEntry entry;
  // No chunks: the values are means already.
  entry.counts = {static_cast<double>(std::max(calls, 1))};
  entry.sums.reserve(columns);
  for (std::uint64_t k = 0; k < columns; ++k) entry.sums.push_back(cursor.number<float>(what));
  return entry;
}

// Very old files end after the entries.
void read_tail(GgufCursor& cursor, Imatrix& imatrix) {
  if (cursor.left() == 0) return;
  const auto chunks = cursor.number<std::int32_t>("the number of chunks");
  imatrix.chunks = std::max(chunks, 0);
  if (cursor.left() == 0) return;
  const std::string dataset = read_name(cursor, "the name of the text");
  if (!dataset.empty()) imatrix.datasets = {dataset};
  if (cursor.left() > 0)
    refuse(fmt::format("{} bytes follow the name of the text, where the file should end",
                       cursor.left()));
}

class Buffer {
 public:
  void add(std::int32_t value) { append(&value, sizeof(value)); }
  void add(float value) { append(&value, sizeof(value)); }
  void add(const std::string& text) {
    add(static_cast<std::int32_t>(text.size()));
    bytes_ += text;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void append(const void* value, std::size_t size) {
    bytes_.append(static_cast<const char*>(value), size);
  }
  std::string bytes_;
};

std::int32_t chunks_of(const ImatrixEntry& entry, std::int64_t chunk_size) {
  const double most = *std::max_element(entry.counts.begin(), entry.counts.end());
  const double chunks =
      std::ceil(most / static_cast<double>(std::max<std::int64_t>(chunk_size, 1)));
  return static_cast<std::int32_t>(
      std::clamp(chunks, 1.0, static_cast<double>(std::numeric_limits<std::int32_t>::max())));
}

// A matrix that no token reached is stored as ones, as llama.cpp does.
void add_values(Buffer& buffer, const ImatrixEntry& entry, std::int32_t chunks) {
  for (Index m = 0; m < entry.matrices; ++m) {
    const double count = entry.counts[static_cast<std::size_t>(m)];
    const std::vector<float> mean = entry.mean_square(m);
    for (Index k = 0; k < entry.columns(); ++k)
      // Not through a quotient that may be rounded.
      buffer.add(
          count == chunks
              ? static_cast<float>(entry.sums[static_cast<std::size_t>(m * entry.columns() + k)])
              : mean[static_cast<std::size_t>(k)] * static_cast<float>(chunks));
  }
}

// Lengths of this format are 32 bits wide.
std::int32_t narrow(std::size_t count, const std::string& what) {
  if (count <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    return static_cast<std::int32_t>(count);
  refuse(fmt::format("{}: {} values are more than a .dat file can count; write GGUF", what, count));
}

}  // namespace

Imatrix parse_imatrix_dat(std::span<const std::byte> file) {
  GgufCursor cursor(file);
  // The smallest entry: the length of its name, one letter, chunks, columns and one value.
  const std::uint64_t count = read_count(cursor, 4 + 1 + 4 + 4 + 4, "the number of entries");
  if (count == 0) refuse("is no importance matrix: it says that it has 0 entries");
  Imatrix imatrix;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string name = read_name(cursor, fmt::format("the name of entry {} of {}", i + 1, count));
    if (name.empty()) refuse(fmt::format("entry {} of {} has no name", i + 1, count));
    const std::string what = "entry " + quote_name(name);
    ImatrixEntry entry = read_entry(cursor, what);
    check_imatrix_entry(name, entry);
    if (!imatrix.entries.try_emplace(std::move(name), std::move(entry)).second)
      refuse(what + " is there twice");
  }
  read_tail(cursor, imatrix);
  return imatrix;
}

void write_imatrix_dat(const Imatrix& imatrix, const std::filesystem::path& file) {
  Buffer buffer;
  buffer.add(static_cast<std::int32_t>(imatrix.entries.size()));
  for (const auto& [name, entry] : imatrix.entries) {
    const std::int32_t chunks = chunks_of(entry, imatrix.chunk_size);
    buffer.add(name);
    buffer.add(chunks);
    buffer.add(narrow(entry.sums.size(), "entry " + quote_name(name)));
    add_values(buffer, entry, chunks);
  }
  buffer.add(static_cast<std::int32_t>(
      std::min<std::int64_t>(imatrix.chunks, std::numeric_limits<std::int32_t>::max())));
  buffer.add(fmt::format("{}", fmt::join(imatrix.datasets, ", ")));
  write_file(file, buffer.bytes());
}

}  // namespace calque::io
