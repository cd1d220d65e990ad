#include "io/gguf_shards.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "calque/core/error.h"
#include "io/gguf_parse.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

// The types that loaders insist on.
GgufMetadata split_keys(std::size_t number, std::size_t count, std::size_t tensors) {
  return {{"split.no", GgufValue::Scalar(static_cast<std::uint16_t>(number))},
          {"split.count", GgufValue::Scalar(static_cast<std::uint16_t>(count))},
          {"split.tensors.count", GgufValue::Scalar(static_cast<std::int32_t>(tensors))}};
}

// Grows a shard by one tensor after the other, and says how long its file is.
class ShardSize {
 public:
  explicit ShardSize(std::uint64_t head_bytes) : head_bytes_(head_bytes) {}

  std::uint64_t with(const GgufTensorDeclaration& tensor) const {
    return gguf_padded(head_bytes_ + gguf_record_bytes(tensor)) + data_bytes_ +
           gguf_padded(tensor.byte_count());
  }
  void add(const GgufTensorDeclaration& tensor) {
    head_bytes_ += gguf_record_bytes(tensor);
    data_bytes_ += gguf_padded(tensor.byte_count());
  }

 private:
  std::uint64_t head_bytes_;
  std::uint64_t data_bytes_ = 0;
};

// Tensors of every shard, in order. `first_head`, `other_head`: bytes before the tensor list. The
// first shard has no tensor where its keys leave no room for one that would fit elsewhere.
std::vector<std::size_t> partition(std::span<const GgufTensorDeclaration> tensors,
                                   std::uint64_t first_head, std::uint64_t other_head,
                                   std::uint64_t max_bytes) {
  std::vector<std::size_t> counts = {0};
  ShardSize size(first_head);
  for (const GgufTensorDeclaration& tensor : tensors) {
    const bool fits_alone = ShardSize(other_head).with(tensor) <= max_bytes;
    const bool fits = size.with(tensor) <= max_bytes || (counts.back() == 0 && !fits_alone);
    if (!fits) {
      counts.push_back(0);
      size = ShardSize(other_head);
    }
    ++counts.back();
    size.add(tensor);
  }
  return counts;
}

std::uint64_t file_bytes(const GgufMetadata& metadata,
                         std::span<const GgufTensorDeclaration> tensors) {
  std::uint64_t head = gguf_head_bytes(metadata);
  std::uint64_t data = 0;
  for (const GgufTensorDeclaration& tensor : tensors) {
    head += gguf_record_bytes(tensor);
    data += gguf_padded(tensor.byte_count());
  }
  return gguf_padded(head) + data;
}

bool is_digits(std::string_view text) {
  return text.size() == 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Whether `name` is "<stem>-00001-of-00003.gguf" for any two numbers.
bool is_shard_name(std::string_view name, std::string_view stem) {
  constexpr std::string_view kOf = "-of-", kExtension = ".gguf";
  if (name.size() != stem.size() + 1 + 5 + kOf.size() + 5 + kExtension.size()) return false;
  if (!name.starts_with(stem) || !name.ends_with(kExtension)) return false;
  const std::string_view numbers = name.substr(stem.size());
  return numbers[0] == '-' && is_digits(numbers.substr(1, 5)) && numbers.substr(6, 4) == kOf &&
         is_digits(numbers.substr(10, 5));
}

}  // namespace

std::vector<GgufShard> gguf_shards(const GgufMetadata& metadata,
                                   std::span<const GgufTensorDeclaration> tensors,
                                   std::uint64_t max_bytes) {
  if (max_bytes == 0 || file_bytes(metadata, tensors) <= max_bytes)
    return {{0, tensors.size(), metadata}};
  const std::uint64_t split_head = gguf_head_bytes(split_keys(0, 1, 0));
  const std::uint64_t own_keys = gguf_head_bytes(metadata) - gguf_head_bytes({});
  const std::vector<std::size_t> counts =
      partition(tensors, split_head + own_keys, split_head, max_bytes);
  if (counts.size() == 1) return {{0, tensors.size(), metadata}};
  if (counts.size() > std::numeric_limits<std::uint16_t>::max())
    throw Error(
        ErrorKind::kInternal, "",
        fmt::format("a GGUF file cannot have {} shards; 65535 are possible", counts.size()));
  std::vector<GgufShard> shards;
  std::size_t first = 0;
  for (std::size_t n = 0; n < counts.size(); ++n) {
    GgufMetadata keys = n == 0 ? metadata : GgufMetadata{};
    for (auto& key : split_keys(n, counts.size(), tensors.size())) keys.push_back(std::move(key));
    shards.push_back({first, counts[n], std::move(keys)});
    first += counts[n];
  }
  return shards;
}

std::vector<std::pair<fs::path, std::uint64_t>> gguf_file_sizes(
    const fs::path& path, const GgufMetadata& metadata,
    std::span<const GgufTensorDeclaration> tensors, std::uint64_t max_bytes) {
  const std::vector<GgufShard> shards = gguf_shards(metadata, tensors, max_bytes);
  std::vector<std::pair<fs::path, std::uint64_t>> sizes;
  for (std::size_t n = 0; n < shards.size(); ++n)
    sizes.emplace_back(
        shards.size() == 1 ? path : gguf_shard_path(path, n + 1, shards.size()),
        file_bytes(shards[n].metadata, tensors.subspan(shards[n].first_tensor, shards[n].tensors)));
  return sizes;
}

std::uint64_t gguf_padded(std::uint64_t size) {
  constexpr std::uint64_t kAlignment = kGgufDefaultAlignment;
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

fs::path gguf_shard_path(const fs::path& path, std::size_t number, std::size_t count) {
  const std::string stem =
      path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
  return path.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", stem, number, count);
}

std::vector<fs::path> gguf_files_of(const fs::path& path) {
  std::error_code ignored;
  std::vector<fs::path> files;
  if (fs::exists(path, ignored)) files.push_back(path);
  const std::string stem =
      path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (is_shard_name(entry.path().filename().string(), stem))
      shards.push_back(path.parent_path() / entry.path().filename());
  std::sort(shards.begin(), shards.end());
  files.insert(files.end(), shards.begin(), shards.end());
  return files;
}

fs::path gguf_entry_of(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  std::vector<fs::path> firsts;
  for (const fs::path& file : gguf_files_of(path))
    if (file.filename().string().find("-00001-of-") != std::string::npos) firsts.push_back(file);
  return firsts.size() == 1 ? firsts.front() : path;
}

}  // namespace calque::io
