#include "calque/io/imatrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"
#include "io/imatrix_formats.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

void check_numbers(const std::string& name, const std::vector<double>& values, const char* what) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]) || values[i] < 0)
      refuse(fmt::format("entry {}: {} {} is {}, not a finite number of 0 or more; measure again",
                         quote_name(name), what, i, values[i]));
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

// The older format does not say how many matrices share its values.
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

}  // namespace

std::vector<float> ImatrixEntry::mean_square(Index m) const {
  std::vector<float> mean(static_cast<std::size_t>(columns()), 1.0f);
  // In fp32, as llama.cpp divides: what is rounded by it comes out the same byte for byte.
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

void check_imatrix_entry(const std::string& name, const ImatrixEntry& entry) {
  if (entry.sums.empty()) refuse(fmt::format("entry {} has no sums", quote_name(name)));
  check_numbers(name, entry.sums, "the sum at");
  check_numbers(name, entry.counts, "the count at");
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
    for (const auto& [name, entry] : imatrix.entries) check_imatrix_entry(name, entry);
  });
  if (is_dat(file, format))
    write_imatrix_dat(imatrix, file);
  else
    write_imatrix_gguf(imatrix, file);
}

}  // namespace calque::io
