#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "io/gguf_parse.h"
#include "io/refuse.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

// The prefix of "<prefix>-00001-of-00003.gguf" if `name` is the first of `count` shards.
std::optional<std::string> shard_prefix(const std::string& name, std::int64_t count) {
  const std::string suffix = fmt::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(suffix)) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

const GgufValue* find_key(const GgufMetadata& metadata, std::string_view key) {
  for (const auto& [name, value] : metadata)
    if (name == key) return &value;
  return nullptr;
}

template <typename T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

// The value if it is an integer of any width that fits.
std::optional<std::int64_t> as_integer(const GgufValue& value) {
  const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
  if (!scalar) return std::nullopt;
  return std::visit(
      [](const auto& stored) -> std::optional<std::int64_t> {
        using T = std::decay_t<decltype(stored)>;
        if constexpr (!kIsInteger<T>) {
          return std::nullopt;
        } else {
          if (!std::in_range<std::int64_t>(stored)) return std::nullopt;
          return static_cast<std::int64_t>(stored);
        }
      },
      *scalar);
}

std::optional<double> as_real(const GgufValue& value) {
  const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
  if (!scalar) return std::nullopt;
  if (const auto* single = std::get_if<float>(scalar)) return *single;
  if (const auto* wide = std::get_if<double>(scalar)) return *wide;
  return std::nullopt;
}

template <typename T>
std::optional<T> as(const GgufValue& value) {
  const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
  const auto* stored = scalar ? std::get_if<T>(scalar) : nullptr;
  return stored ? std::optional<T>(*stored) : std::nullopt;
}

// Converts the value; Error(kInput) if it is of another kind.
template <typename Convert>
auto typed(const GgufFile& file, std::string_view key, std::string_view kind, Convert convert)
    -> decltype(convert(GgufValue())) {
  const GgufValue* value = file.find(key);
  if (!value) return std::nullopt;
  const auto converted = convert(*value);
  if (!converted)
    refuse(fmt::format("{}: key {} is not {}", file.path().string(), quote_name(key), kind));
  return converted;
}

std::int64_t split_key(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = find_key(metadata, key);
  const auto number = value ? as_integer(*value) : std::nullopt;
  if (!number) refuse(fmt::format("key '{}' of a sharded file is missing or not an integer", key));
  return *number;
}

// 1 for a file that is not sharded.
std::int64_t shard_count(const GgufMetadata& metadata) {
  if (!find_key(metadata, "split.count")) return 1;
  const std::int64_t count = split_key(metadata, "split.count");
  if (count < 0 || count > std::numeric_limits<std::uint16_t>::max())
    refuse(fmt::format("key 'split.count' is {}, out of range", count));
  return count;
}

// The paths of shards 2 ... count, once the first one is known to be the first.
std::vector<fs::path> later_shards(const fs::path& first, const GgufMetadata& metadata) {
  const std::int64_t count = shard_count(metadata);
  if (count <= 1) return {};
  const std::int64_t number = split_key(metadata, "split.no");
  if (number != 0)
    refuse(fmt::format("is shard {} of {}; open the first one (...-00001-of-{:05}.gguf)",
                       number + 1, count, count));
  const auto prefix = shard_prefix(first.filename().string(), count);
  if (!prefix)
    refuse(
        fmt::format("is the first of {} shards, but its name does not end in "
                    "-00001-of-{:05}.gguf, so the others cannot be found",
                    count, count));
  std::vector<fs::path> paths;
  for (std::int64_t i = 2; i <= count; ++i)
    paths.push_back(first.parent_path() / fmt::format("{}-{:05}-of-{:05}.gguf", *prefix, i, count));
  return paths;
}

void check_shard(const GgufMetadata& metadata, std::int64_t number, std::int64_t count) {
  const std::int64_t own_number = split_key(metadata, "split.no");
  const std::int64_t own_count = split_key(metadata, "split.count");
  if (own_number != number || own_count != count)
    refuse(fmt::format("says it is shard {} of {}, but shard {} of {} is needed", own_number + 1,
                       own_count, number + 1, count));
}

void check_total(const GgufMetadata& metadata, std::size_t count) {
  const std::int64_t expected = split_key(metadata, "split.tensors.count");
  if (std::cmp_not_equal(expected, count))
    refuse(fmt::format("the shards hold {} tensors, but key 'split.tensors.count' says {}", count,
                       expected));
}

bool is_digits(std::string_view text) {
  return text.size() == 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// True if `name` is "<stem>-00001-of-00003.gguf" for any two numbers.
bool is_shard_name(std::string_view name, std::string_view stem) {
  constexpr std::string_view kOf = "-of-", kExtension = ".gguf";
  if (name.size() != stem.size() + 1 + 5 + kOf.size() + 5 + kExtension.size()) return false;
  if (!name.starts_with(stem) || !name.ends_with(kExtension)) return false;
  const std::string_view numbers = name.substr(stem.size());
  return numbers[0] == '-' && is_digits(numbers.substr(1, 5)) && numbers.substr(6, 4) == kOf &&
         is_digits(numbers.substr(10, 5));
}

}  // namespace

std::uint64_t GgufTensor::element_count() const {
  std::uint64_t count = 1;
  for (const std::uint64_t size : ne) count *= size;
  return count;
}

GgufFile::GgufFile(const fs::path& path) : path_(path) {
  const auto open = [this](const fs::path& file) {
    files_.push_back(std::make_unique<MappedFile>(file));
    return parse_gguf(files_.back()->bytes());
  };
  const auto add = [this](std::vector<GgufTensor> tensors) {
    for (GgufTensor& tensor : tensors) {
      if (!tensor_index_.emplace(tensor.name, tensors_.size()).second)
        refuse(fmt::format("tensor {} is in an earlier shard too", quote_name(tensor.name)));
      tensor.file = files_.back().get();
      tensors_.push_back(std::move(tensor));
    }
  };
  const std::vector<fs::path> others = with_context(path.string(), [&] {
    GgufContents contents = open(path);
    metadata_ = std::move(contents.metadata);
    add(std::move(contents.tensors));
    return later_shards(path, metadata_);
  });
  for (std::size_t i = 0; i < metadata_.size(); ++i) key_index_.emplace(metadata_[i].first, i);

  const auto count = static_cast<std::int64_t>(others.size()) + 1;
  for (std::int64_t i = 1; i < count; ++i) {
    const fs::path& other = others[static_cast<std::size_t>(i - 1)];
    with_context(other.string(), [&] {
      GgufContents contents = open(other);
      check_shard(contents.metadata, i, count);
      add(std::move(contents.tensors));
    });
  }
  if (count > 1) with_context(path.string(), [&] { check_total(metadata_, tensors_.size()); });
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = key_index_.find(key);
  return found == key_index_.end() ? nullptr : &metadata_[found->second].second;
}

std::uint64_t GgufFile::file_bytes() const {
  std::uint64_t total = 0;
  for (const auto& file : files_) total += file->bytes().size();
  return total;
}

std::optional<std::int64_t> GgufFile::integer(std::string_view key) const {
  return typed(*this, key, "an integer of 63 bits", as_integer);
}

std::optional<double> GgufFile::real(std::string_view key) const {
  return typed(*this, key, "a floating-point number", as_real);
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  return typed(*this, key, "a truth value", as<bool>);
}

std::optional<std::string> GgufFile::string(std::string_view key) const {
  return typed(*this, key, "a text", as<std::string>);
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
