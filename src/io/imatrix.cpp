#include "calque/io/imatrix.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <span>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "io/gguf_cursor.h"
#include "io/gguf_parse.h"
#include "io/refuse.h"

namespace calque::io {
namespace {

void check_numbers(const std::string& name, const std::vector<double>& values, const char* what) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!(values[i] >= 0 && values[i] <= std::numeric_limits<float>::max()))
      refuse(
          fmt::format("entry {}: {} {} is {}, not a number from 0 to 3.4e38 (F32's largest); "
                      "measure again",
                      quote_name(name), what, i, unsigned_nan(values[i])));
}

bool is_gguf(std::span<const std::byte> file) {
  constexpr std::string_view kMagic = "GGUF";
  return file.size() >= kMagic.size() && std::memcmp(file.data(), kMagic.data(), 4) == 0;
}

bool is_dat(const std::filesystem::path& file, ImatrixFormat format) {
  if (format == ImatrixFormat::kByName) return file.extension() == ".dat";
  return format == ImatrixFormat::kDat;
}

// Counts of the older format are chunks, not tokens.
double tokens_a_count(const Imatrix& own, const Imatrix& other) {
  return own.chunk_size == 0 && other.chunk_size > 0 ? static_cast<double>(other.chunk_size) : 1.0;
}

void scale(ImatrixEntry& entry, double factor) {
  for (double& sum : entry.sums) sum *= factor;
  for (double& count : entry.counts) count *= factor;
}

// The older format does not state the number of matrices that share its values.
void split_like(ImatrixEntry& entry, const ImatrixEntry& other) {
  if (entry.matrices != 1 || entry.sums.size() != other.sums.size()) return;
  entry.matrices = other.matrices;
  entry.counts.resize(other.counts.size(), entry.counts.front());
}

void add_entry(const std::string& name, ImatrixEntry& own, ImatrixEntry other) {
  split_like(own, other);
  split_like(other, own);
  if (own.matrices != other.matrices || own.sums.size() != other.sums.size())
    refuse(fmt::format(
        "entry {} has {} matrices of {} columns in one importance matrix, {} of {} "
        "in the other; were they measured on the same model?",
        quote_name(name), own.matrices, own.columns(), other.matrices, other.columns()));
  std::transform(own.sums.begin(), own.sums.end(), other.sums.begin(), own.sums.begin(),
                 std::plus<>());
  std::transform(own.counts.begin(), own.counts.end(), other.counts.begin(), own.counts.begin(),
                 std::plus<>());
}

// Refuses an entry without sums, and a sum or count that is negative or not finite.
void check_entry(const std::string& name, const ImatrixEntry& entry) {
  if (entry.sums.empty()) refuse(fmt::format("entry {} has no sums", quote_name(name)));
  check_numbers(name, entry.sums, "the sum at");
  check_numbers(name, entry.counts, "the count at");
}

// The older format (.dat). Each entry has a name, a number of chunks, and per column the mean
// square times that number.

// Refuses a count that the rest of the file cannot hold.
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

class DatBytes {
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
void add_values(DatBytes& buffer, const ImatrixEntry& entry, std::int32_t chunks) {
  for (Index m = 0; m < entry.matrices; ++m) {
    const double count = entry.counts[static_cast<std::size_t>(m)];
    const std::vector<float> mean = entry.mean_square(m);
    for (Index k = 0; k < entry.columns(); ++k)
      // Avoids a quotient that may be rounded.
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

Imatrix parse_imatrix_dat(std::span<const std::byte> file) {
  GgufCursor cursor(file);
  // The smallest entry: the length of its name, one letter, chunks, columns and one value.
  const std::uint64_t count = read_count(cursor, 4 + 1 + 4 + 4 + 4, "the number of entries");
  if (count == 0) refuse("is not an importance matrix: it has 0 entries");
  Imatrix imatrix;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string name = read_name(cursor, fmt::format("the name of entry {} of {}", i + 1, count));
    if (name.empty()) refuse(fmt::format("entry {} of {} has no name", i + 1, count));
    const std::string what = "entry " + quote_name(name);
    ImatrixEntry entry = read_entry(cursor, what);
    check_entry(name, entry);
    if (!imatrix.entries.try_emplace(std::move(name), std::move(entry)).second)
      refuse(what + " occurs twice");
  }
  read_tail(cursor, imatrix);
  return imatrix;
}

void write_imatrix_dat(const Imatrix& imatrix, const std::filesystem::path& file) {
  DatBytes buffer;
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

// The newer format (GGUF): NAME.in_sum2 [columns, matrices] and NAME.counts [1, matrices], F32,
// sorted by name.

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr const char* kDatasets = "imatrix.datasets";
constexpr const char* kChunkCount = "imatrix.chunk_count";
constexpr const char* kChunkSize = "imatrix.chunk_size";

std::string described(const GgufTensor& tensor) {
  return fmt::format("tensor {} ({} [{}])", quote_name(tensor.name),
                     ggml::info_of(tensor.type).name, fmt::join(tensor.ne, ", "));
}

std::vector<double> values_of(const GgufTensor& tensor) {
  if (tensor.type != ggml::Type::kF32) refuse(fmt::format("{} should be F32", described(tensor)));
  if (tensor.bytes.empty()) return {};
  std::vector<float> stored(tensor.bytes.size() / sizeof(float));
  std::memcpy(stored.data(), tensor.bytes.data(), tensor.bytes.size());
  return {stored.begin(), stored.end()};
}

ImatrixEntry entry_of(const GgufTensor& sums, const GgufTensor* counts, const std::string& name) {
  if (counts == nullptr)
    refuse(fmt::format("{} has no matching tensor {}", described(sums),
                       quote_name(name + std::string(kCounts))));
  ImatrixEntry entry;
  entry.sums = values_of(sums);
  entry.counts = values_of(*counts);
  // Shaped by its counts: sums of one matrix may lack the last dimension.
  const std::uint64_t columns = sums.ne[0];
  if (columns == 0 || entry.counts.size() * columns != entry.sums.size())
    refuse(fmt::format("{} and {} do not match: one count per row is expected", described(sums),
                       described(*counts)));
  entry.matrices = static_cast<Index>(entry.counts.size());
  check_entry(name, entry);
  return entry;
}

void check_type(const GgufFile& file) {
  const std::string type = file.string("general.type").value_or("");
  if (type == "imatrix") return;
  const bool model = file.find("general.architecture") != nullptr;
  refuse(fmt::format("is not an importance matrix: key 'general.type' is {}, not 'imatrix'{}",
                     quote_name(type), model ? " (it is a model)" : ""));
}

std::vector<std::string> datasets_of(const GgufFile& file) {
  const GgufValue* value = file.find(kDatasets);
  if (value == nullptr) return {};
  const auto* array = std::get_if<GgufValue::Array>(&value->value);
  const auto* names = array ? std::get_if<std::vector<std::string>>(array) : nullptr;
  if (names == nullptr) refuse(fmt::format("key '{}' is not a list of texts", kDatasets));
  return *names;
}

std::int64_t count_key(const GgufFile& file, const char* key) {
  const std::int64_t count = file.integer(key).value_or(0);
  if (count < 0 || count > std::numeric_limits<std::uint32_t>::max())
    refuse(fmt::format("key '{}' is {}, not a count of 32 bits", key, count));
  return count;
}

std::string entry_name(const GgufTensor& sums) {
  return sums.name.substr(0, sums.name.size() - kSums.size());
}

Imatrix imatrix_of(const GgufFile& file) {
  check_type(file);
  Imatrix imatrix;
  imatrix.datasets = datasets_of(file);
  imatrix.chunks = count_key(file, kChunkCount);
  imatrix.chunk_size = count_key(file, kChunkSize);
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(kSums)) continue;
    const std::string name = entry_name(tensor);
    if (name.empty()) refuse(fmt::format("{} names no tensor", described(tensor)));
    imatrix.entries.emplace(name,
                            entry_of(tensor, file.find_tensor(name + std::string(kCounts)), name));
  }
  if (imatrix.entries.empty()) refuse("is an importance matrix without entries (NAME.in_sum2)");
  return imatrix;
}

GgufMetadata metadata_of(const Imatrix& imatrix) {
  using Scalar = GgufValue::Scalar;
  const auto count = [](std::int64_t value) {
    constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
    return Scalar(static_cast<std::uint32_t>(std::min(value, kMost)));
  };
  return {{"general.type", Scalar(std::string("imatrix"))},
          {kDatasets, GgufValue::Array(imatrix.datasets)},
          {kChunkCount, count(imatrix.chunks)},
          // Readers divide by it.
          {kChunkSize, count(std::max<std::int64_t>(imatrix.chunk_size, 1))}};
}

GgufTensorDeclaration declared(const std::string& name, std::string_view suffix, Index columns,
                               Index matrices) {
  std::string full = name + std::string(suffix);
  if (full.size() > kGgufMaxNameBytes)
    refuse(
        fmt::format("entry {}: the name with {} has {} bytes, GGUF takes at most {}; write a "
                    ".dat file",
                    quote_name(name), suffix, full.size(), kGgufMaxNameBytes));
  GgufTensorDeclaration tensor{
      std::move(full), ggml::Type::kF32, {static_cast<std::uint64_t>(columns)}};
  if (matrices > 1) tensor.ne.push_back(static_cast<std::uint64_t>(matrices));  // as ggml writes
  return tensor;
}

std::vector<GgufTensorDeclaration> declarations_of(const Imatrix& imatrix) {
  std::vector<GgufTensorDeclaration> tensors;
  for (const auto& [name, entry] : imatrix.entries) {
    tensors.push_back(declared(name, kSums, entry.columns(), entry.matrices));
    tensors.push_back(declared(name, kCounts, 1, entry.matrices));
  }
  return tensors;
}

void write_values(GgufWriter& writer, const std::string& name, const std::vector<double>& values) {
  const std::vector<float> stored(values.begin(), values.end());
  writer.write(name, std::as_bytes(std::span(stored)));
}

Imatrix read_imatrix_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  return with_context(path.string(), [&] { return imatrix_of(file); });
}

void write_imatrix_gguf(const Imatrix& imatrix, const std::filesystem::path& file) {
  const std::vector<GgufTensorDeclaration> tensors =
      with_context(file.string(), [&] { return declarations_of(imatrix); });
  GgufWriter writer(file, metadata_of(imatrix), tensors);
  for (const auto& [name, entry] : imatrix.entries) {
    write_values(writer, name + std::string(kSums), entry.sums);
    write_values(writer, name + std::string(kCounts), entry.counts);
  }
  writer.finish();
}

}  // namespace

std::vector<float> ImatrixEntry::mean_square(Index m) const {
  std::vector<float> mean(static_cast<std::size_t>(columns()), 1.0f);
  // In fp32, as llama.cpp divides, so that rounding by it gives the same bytes.
  const auto count = static_cast<float>(counts[static_cast<std::size_t>(m)]);
  if (count <= 0) return mean;
  const double* sum = sums.data() + m * columns();
  for (std::size_t k = 0; k < mean.size(); ++k) mean[k] = static_cast<float>(sum[k]) / count;
  return mean;
}

const ImatrixEntry* Imatrix::find(std::string_view gguf_name) const {
  const auto found = entries.find(gguf_name);
  return found == entries.end() ? nullptr : &found->second;
}

void Imatrix::add(const Imatrix& other) {
  const double own_factor = tokens_a_count(*this, other);
  const double other_factor = tokens_a_count(other, *this);
  for (auto& [name, entry] : entries) scale(entry, own_factor);
  for (auto [name, entry] : other.entries) {
    scale(entry, other_factor);
    const auto [place, is_new] = entries.try_emplace(name, entry);
    if (!is_new) add_entry(name, place->second, std::move(entry));
  }
  for (const std::string& dataset : other.datasets)
    if (std::find(datasets.begin(), datasets.end(), dataset) == datasets.end())
      datasets.push_back(dataset);
  chunks += other.chunks;
  if (chunk_size == 0) chunk_size = other.chunk_size;
}

void Imatrix::drop_folders() {
  for (std::string& dataset : datasets) {
    const std::size_t slash = dataset.find_last_of("/\\");
    if (slash != std::string::npos) dataset.erase(0, slash + 1);
  }
}

Imatrix read_imatrix(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  if (is_gguf(mapped.bytes())) return read_imatrix_gguf(file);
  return with_context(file.string(), [&] { return parse_imatrix_dat(mapped.bytes()); });
}

void write_imatrix(const Imatrix& imatrix, const std::filesystem::path& file,
                   ImatrixFormat format) {
  with_context(file.string(), [&] {
    if (imatrix.entries.empty()) refuse("an importance matrix without entries is not written");
    for (const auto& [name, entry] : imatrix.entries) check_entry(name, entry);
  });
  if (is_dat(file, format))
    write_imatrix_dat(imatrix, file);
  else
    write_imatrix_gguf(imatrix, file);
}

}  // namespace calque::io
