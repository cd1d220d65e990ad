// The newer format (formats_gguf.md section 6.3): NAME.in_sum2 [columns, matrices] and NAME.counts
// [1, matrices], F32, sorted by name.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "io/gguf_parse.h"
#include "io/imatrix_formats.h"

namespace calque::io {
namespace {

constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr const char* kDatasets = "imatrix.datasets";
constexpr const char* kChunkCount = "imatrix.chunk_count";
constexpr const char* kChunkSize = "imatrix.chunk_size";

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

std::string described(const GgufTensor& tensor) {
  return fmt::format("tensor {} ({} [{}])", quote_name(tensor.name), info_of(tensor.type).name,
                     fmt::join(tensor.ne, ", "));
}

std::vector<double> values_of(const GgufTensor& tensor) {
  if (tensor.type != GgmlType::kF32) refuse(fmt::format("{} should be F32", described(tensor)));
  if (tensor.bytes.empty()) return {};
  std::vector<float> stored(tensor.bytes.size() / sizeof(float));
  std::memcpy(stored.data(), tensor.bytes.data(), tensor.bytes.size());
  return {stored.begin(), stored.end()};
}

ImatrixEntry entry_of(const GgufTensor& sums, const GgufTensor* counts, const std::string& name) {
  if (counts == nullptr)
    refuse(fmt::format("{} has no tensor {} beside it", described(sums),
                       quote_name(name + std::string(kCounts))));
  ImatrixEntry entry;
  entry.sums = values_of(sums);
  entry.counts = values_of(*counts);
  // By its counts: sums of one matrix may come without the last dimension.
  const std::uint64_t columns = sums.ne[0];
  if (columns == 0 || entry.counts.size() * columns != entry.sums.size())
    refuse(fmt::format("{} and {} do not belong together: one count a row is expected",
                       described(sums), described(*counts)));
  entry.matrices = static_cast<Index>(entry.counts.size());
  check_imatrix_entry(name, entry);
  return entry;
}

void check_type(const GgufFile& file) {
  const std::string type = file.string("general.type").value_or("");
  if (type == "imatrix") return;
  const bool model = file.find("general.architecture") != nullptr;
  refuse(fmt::format("is no importance matrix: key 'general.type' is {}, not 'imatrix'{}",
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
      std::move(full), GgmlType::kF32, {static_cast<std::uint64_t>(columns)}};
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

}  // namespace

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

}  // namespace calque::io
