#include "calque/resume/statistics_store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"

namespace calque::resume {
namespace {

namespace fs = std::filesystem;
using Index64 = std::int64_t;

constexpr std::uint64_t kOneFile = std::uint64_t{1} << 62;  // bytes: never split

Index triangle(Index features) { return features * (features + 1) / 2; }

std::vector<float> packed_triangle(const Matrix<float>& gram_KK) {
  std::vector<float> packed;
  packed.reserve(static_cast<std::size_t>(triangle(gram_KK.rows())));
  for (Index r = 0; r < gram_KK.rows(); ++r)
    packed.insert(packed.end(), gram_KK.row(r) + r, gram_KK.row(r) + gram_KK.cols());
  return packed;
}

Matrix<float> unpacked_triangle(const std::vector<float>& packed, Index features) {
  Matrix<float> gram_KK(features, features);
  const float* next = packed.data();
  for (Index r = 0; r < features; ++r) {
    std::copy_n(next, features - r, gram_KK.row(r) + r);
    next += features - r;
  }
  return gram_KK;
}

std::string tensor_name(std::size_t position, const char* what) {
  return fmt::format("{}.{}", position, what);
}

template <typename T>
void write(io::SafetensorsWriter& writer, const std::string& name, const std::vector<T>& values) {
  writer.write(name, std::as_bytes(std::span(values)));
}

template <typename T>
std::vector<T> read(const io::SafetensorsFile& file, const std::string& name, DType dtype,
                    Index count) {
  const io::TensorRef* tensor = file.find(name);
  if (!tensor || tensor->dtype != dtype || (count >= 0 && tensor->element_count() != count))
    throw Error(ErrorKind::kInput, "", fmt::format("no tensor '{}' as expected", name));
  std::vector<T> values(static_cast<std::size_t>(tensor->element_count()));
  std::memcpy(values.data(), tensor->bytes.data(), tensor->bytes.size());
  return values;
}

std::vector<io::TensorDeclaration> declarations(const StatisticsStore::Seen& sites) {
  std::vector<io::TensorDeclaration> all = {
      {"sites", DType::kI64, {static_cast<Index>(sites.size())}}};
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const quant::InputStats& stats = sites[i].second;
    all.push_back({tensor_name(i, "counts"), DType::kI64, {2}});
    if (stats.empty()) continue;
    all.push_back({tensor_name(i, "gram"), DType::kF32, {triangle(stats.features())}});
    all.push_back({tensor_name(i, "magnitude"), DType::kF64, {stats.features()}});
  }
  return all;
}

void write_block(const fs::path& folder, const model::BlockSpec& block,
                 const StatisticsStore::Seen& sites) {
  io::SafetensorsWriter writer(folder, declarations(sites), kOneFile);
  std::vector<Index64> indices;
  for (const auto& seen : sites) indices.push_back(seen.first - block.sites.data());
  write(writer, "sites", indices);
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const quant::InputStats& stats = sites[i].second;
    write(writer, tensor_name(i, "counts"),
          std::vector<Index64>{stats.tokens, stats.nonfinite_tokens});
    if (stats.empty()) continue;
    write(writer, tensor_name(i, "gram"), packed_triangle(stats.gram_KK));
    write(writer, tensor_name(i, "magnitude"), stats.magnitude_K);
  }
  writer.finish();
}

std::vector<const model::SiteSpec*> sites_in(const io::SafetensorsFile& file,
                                             const model::BlockSpec& block) {
  std::vector<const model::SiteSpec*> sites;
  for (const Index64 index : read<Index64>(file, "sites", DType::kI64, -1)) {
    if (index < 0 || index >= static_cast<Index64>(block.sites.size()))
      throw Error(ErrorKind::kInput, "", fmt::format("there is no site {}", index));
    sites.push_back(&block.sites[static_cast<std::size_t>(index)]);
  }
  return sites;
}

quant::InputStats stats_in(const io::SafetensorsFile& file, std::size_t position, Index features) {
  const auto counts = read<Index64>(file, tensor_name(position, "counts"), DType::kI64, 2);
  quant::InputStats stats;
  stats.tokens = counts[0];
  stats.nonfinite_tokens = counts[1];
  if (stats.empty()) return stats;
  stats.gram_KK = unpacked_triangle(
      read<float>(file, tensor_name(position, "gram"), DType::kF32, triangle(features)), features);
  stats.magnitude_K = read<double>(file, tensor_name(position, "magnitude"), DType::kF64, features);
  return stats;
}

// A name that no other process writes to.
fs::path own_path(const fs::path& path) {
  char host[256] = "";
  ::gethostname(host, sizeof(host) - 1);
  return fs::path(path.string() + fmt::format(".{}-{}", host, ::getpid()));
}

std::vector<model::BlockSpec> measured_blocks(const model::FamilySpec& family) {
  std::vector<model::BlockSpec> blocks = family.blocks;
  if (auto head = family.head_block()) blocks.push_back(std::move(*head));
  return blocks;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

StatisticsStore::StatisticsStore(const fs::path& folder, const std::string& key)
    : folder_(folder / io::sha256_hex(bytes_of(key)).substr(0, 16)), key_(key) {}

fs::path StatisticsStore::block_folder(const model::BlockSpec& block) const {
  return folder_ / fmt::format("block-{:04}", block.layer);
}

template <typename Read>
auto StatisticsStore::reading(const model::BlockSpec& block, Read&& read) const {
  const fs::path path = block_folder(block) / "model.safetensors";
  try {
    return read(io::SafetensorsFile(path));
  } catch (const Error& error) {
    throw Error(ErrorKind::kInput, "E197",
                fmt::format("shared statistics '{}' are damaged ({}). Delete the folder '{}' and "
                            "run the sweep again",
                            path.string(), error.what(), folder_.string()));
  }
}

bool StatisticsStore::complete() const { return fs::exists(folder_ / "complete"); }

double StatisticsStore::seconds() const {
  return complete() ? std::stod("0" + io::read_file(folder_ / "complete")) : 0;
}

bool StatisticsStore::make_room(std::uint64_t bytes) {
  std::error_code error;
  fs::create_directories(folder_, error);
  const fs::space_info space = error ? fs::space_info{} : fs::space(folder_, error);
  if (error)
    trouble_ = fmt::format("cannot write '{}': {}", folder_.string(), error.message());
  else if (space.available < bytes)
    trouble_ = fmt::format("'{}' has {} bytes free, shared statistics need {}", folder_.string(),
                           space.available, bytes);
  return trouble_.empty();
}

void StatisticsStore::save(const model::BlockSpec& block, const Seen& sites) {
  const fs::path target = block_folder(block);
  if (!trouble_.empty() || fs::exists(target)) return;
  const fs::path staging = own_path(target);
  std::error_code ignored;
  fs::remove_all(staging, ignored);
  try {
    write_block(staging, block, sites);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kResource) throw;
    trouble_ = error.what();
  }
  // Fails if another process was faster; it wrote the same bytes.
  if (trouble_.empty()) fs::rename(staging, target, ignored);
  fs::remove_all(staging, ignored);
}

void StatisticsStore::finish(const model::FamilySpec& family, double seconds) {
  const std::vector<model::BlockSpec> blocks = measured_blocks(family);
  const bool all = std::all_of(blocks.begin(), blocks.end(),
                               [&](const auto& block) { return fs::exists(block_folder(block)); });
  if (!all || !trouble_.empty() || complete()) return;
  const fs::path staging = own_path(folder_ / "complete");
  try {
    io::write_file(staging, key_);
    fs::rename(staging, folder_ / "key.txt");
    io::write_file(staging, fmt::format("{:.3f}\n", seconds));
    fs::rename(staging, folder_ / "complete");
  } catch (const std::exception& error) {
    trouble_ = error.what();
  }
}

std::vector<const model::SiteSpec*> StatisticsStore::sites(const model::BlockSpec& block) const {
  return reading(block, [&](const io::SafetensorsFile& file) { return sites_in(file, block); });
}

quant::InputStats StatisticsStore::load(const model::BlockSpec& block,
                                        const model::SiteSpec& site) const {
  return reading(block, [&](const io::SafetensorsFile& file) {
    const std::vector<const model::SiteSpec*> order = sites_in(file, block);
    const auto found = std::find(order.begin(), order.end(), &site);
    return stats_in(file, static_cast<std::size_t>(found - order.begin()), site.features());
  });
}

std::uint64_t statistics_bytes(const model::FamilySpec& family) {
  std::uint64_t bytes = 0;
  for (const model::BlockSpec& block : measured_blocks(family))
    for (const model::SiteSpec& site : block.sites)
      bytes += static_cast<std::uint64_t>(triangle(site.features())) * sizeof(float) +
               static_cast<std::uint64_t>(site.features()) * sizeof(double);
  return bytes;
}

}  // namespace calque::resume
