#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <set>
#include <type_traits>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "io/gguf_parse.h"
#include "io/refuse.h"
#include "io/resource_error.h"

namespace calque::io {
namespace {

namespace fs = std::filesystem;

// Rounds `size` up to a multiple of the alignment.
std::uint64_t gguf_padded(std::uint64_t size) {
  constexpr std::uint64_t kAlignment = kGgufDefaultAlignment;
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

class HeaderBytes {
 public:
  template <typename T>
  void add(const T& value) {
    if constexpr (std::is_same_v<T, std::string>) {
      add(std::uint64_t{value.size()});
      bytes_ += value;
    } else if constexpr (std::is_same_v<T, bool>) {
      bytes_ += value ? '\1' : '\0';
    } else {
      static_assert(std::is_arithmetic_v<T>);
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    }
  }
  void pad() { bytes_.resize(gguf_padded(bytes_.size()), '\0'); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Stored ids follow the order of the alternatives, with 9 (array) before u64.
std::uint32_t type_id(std::size_t alternative) {
  return static_cast<std::uint32_t>(alternative < 9 ? alternative : alternative + 1);
}

void add_value(HeaderBytes& buffer, const GgufValue& value) {
  if (const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value)) {
    buffer.add(type_id(scalar->index()));
    std::visit([&](const auto& stored) { buffer.add(stored); }, *scalar);
    return;
  }
  const auto& array = std::get<GgufValue::Array>(value.value);
  buffer.add(kGgufArrayType);
  buffer.add(type_id(array.index()));
  std::visit(
      [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        buffer.add(std::uint64_t{values.size()});
        for (const T& stored : values) buffer.add(stored);
      },
      array);
}

void check_metadata(const GgufMetadata& metadata) {
  std::set<std::string> keys;
  for (const auto& [key, value] : metadata) {
    if (key.empty()) refuse_call("a GGUF key has no name");
    if (!keys.insert(key).second)
      refuse_call(fmt::format("GGUF key {} is set twice", quote_name(key)));
    if (key != "general.alignment") continue;
    const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
    if (!scalar || *scalar != GgufValue::Scalar(std::uint32_t{kGgufDefaultAlignment}))
      refuse_call("GGUF key 'general.alignment' must be the u32 32: the writer aligns to that");
  }
}

void check_tensor(const GgufTensorDeclaration& tensor) {
  if (tensor.name.size() > kGgufMaxNameBytes)
    refuse_call(fmt::format("GGUF tensor name {} has {} bytes, readers take at most {}",
                            quote_name(tensor.name), tensor.name.size(), kGgufMaxNameBytes));
  if (tensor.ne.empty() || tensor.ne.size() > kGgufMaxDimensions)
    refuse_call(fmt::format("GGUF tensor {} has {} dimensions, 1 to {} are possible",
                            quote_name(tensor.name), tensor.ne.size(), kGgufMaxDimensions));
}

// The last check of every number that is stored: callers with more to say have looked before.
// Parts of a tensor are whole rows.
void require_finite(const GgufTensorDeclaration& tensor, std::uint64_t offset,
                    std::span<const std::byte> bytes) {
  const std::uint64_t columns = tensor.ne.front();
  const std::uint64_t row_bytes = ggml::row_bytes(tensor.type, static_cast<Index>(columns));
  const std::string fault =
      ggml::first_fault(tensor.type, bytes, columns, row_bytes == 0 ? 0 : offset / row_bytes);
  if (fault.empty()) return;
  throw Error(ErrorKind::kNumerical, "E402",
              fmt::format("tensor {}, stored as {}: {}, which nothing can compute with",
                          quote_name(tensor.name), ggml::info_of(tensor.type).name, fault));
}

void add_head(HeaderBytes& buffer, const GgufMetadata& metadata, std::size_t tensors) {
  for (const char letter : {'G', 'G', 'U', 'F'}) buffer.add(letter);
  buffer.add(std::uint32_t{3});
  buffer.add(std::uint64_t{tensors});
  buffer.add(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    buffer.add(key);
    add_value(buffer, value);
  }
}

void add_record(HeaderBytes& buffer, const GgufTensorDeclaration& tensor, std::uint64_t offset) {
  buffer.add(tensor.name);
  buffer.add(static_cast<std::uint32_t>(tensor.ne.size()));
  for (const std::uint64_t size : tensor.ne) buffer.add(size);
  buffer.add(static_cast<std::uint32_t>(tensor.type));
  buffer.add(offset);
}

std::string header_of(const GgufMetadata& metadata,
                      std::span<const GgufTensorDeclaration> tensors) {
  HeaderBytes buffer;
  add_head(buffer, metadata, tensors.size());
  std::uint64_t offset = 0;
  for (const GgufTensorDeclaration& tensor : tensors) {
    add_record(buffer, tensor, offset);
    offset += gguf_padded(tensor.byte_count());
  }
  buffer.pad();
  return buffer.bytes();
}

// Bytes of a file's head before its padding.
std::uint64_t gguf_head_bytes(const GgufMetadata& metadata) {
  HeaderBytes buffer;
  add_head(buffer, metadata, 0);
  return buffer.bytes().size();
}

std::uint64_t gguf_record_bytes(const GgufTensorDeclaration& tensor) {
  HeaderBytes buffer;
  add_record(buffer, tensor, 0);
  return buffer.bytes().size();
}

// One file of a split: consecutive tensors, and its own keys.
struct GgufShard {
  std::size_t first_tensor = 0;
  std::size_t tensors = 0;
  GgufMetadata metadata;
};

// Keys in the types that loaders require.
GgufMetadata split_keys(std::size_t number, std::size_t count, std::size_t tensors) {
  return {{"split.no", GgufValue::Scalar(static_cast<std::uint16_t>(number))},
          {"split.count", GgufValue::Scalar(static_cast<std::uint16_t>(count))},
          {"split.tensors.count", GgufValue::Scalar(static_cast<std::int32_t>(tensors))}};
}

// Adds one tensor after the other to a shard and tracks the length of its file.
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

// Assigns tensors to shards, in order. `first_head` and `other_head` are the bytes before the
// tensor list. The first shard has no tensor if its keys leave no room for one that would fit
// elsewhere.
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

// One shard with `metadata` unchanged, if everything fits into `max_bytes` or that is 0.
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
    refuse_call(
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

AtomicFile begun(const fs::path& path, std::uint64_t bytes, const std::string& header) {
  AtomicFile file(path);
  file.reserve(bytes);
  file.append(header);
  return file;
}

AtomicFile reopened(const fs::path& path, std::uint64_t bytes, const std::string& header,
                    const std::string& identity) {
  if (identity_of(path) == identity) AtomicFile::take_back(path);
  if (identity_of(AtomicFile::partial_name(path)) != identity)
    throw_missing_part(AtomicFile::partial_name(path), "is missing or is another file");
  AtomicFile file(path, GoOn{bytes});
  require_header(file, header, path);
  return file;
}

// All or none: syncs everything before the first file gets its name; if renaming fails, removes the
// files already renamed.
void commit_together(std::vector<AtomicFile>& files, const std::vector<fs::path>& paths) {
  for (AtomicFile& file : files) file.sync();
  std::size_t left = files.size();
  try {
    for (; left > 0; --left) files[left - 1].commit();
  } catch (...) {
    std::error_code ignored;
    for (; left < files.size(); ++left) fs::remove(paths[left], ignored);
    throw;
  }
}

void remove_others(const fs::path& path, const std::vector<fs::path>& kept) {
  std::error_code ignored;
  for (const fs::path& file : gguf_files_of(path))
    if (std::find(kept.begin(), kept.end(), file) == kept.end()) fs::remove(file, ignored);
}

}  // namespace

std::uint64_t GgufTensorDeclaration::byte_count() const {
  const auto bytes = ggml_byte_count(type, ne);
  if (!bytes)
    refuse_call(fmt::format(
        "GGUF tensor {} ({} [{}]): rows are not whole blocks of {}, or too large", quote_name(name),
        ggml::info_of(type).name, fmt::join(ne, ", "), ggml::info_of(type).block_columns));
  return *bytes;
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

GgufWriter::GgufWriter(const fs::path& path, const GgufMetadata& metadata,
                       std::vector<GgufTensorDeclaration> tensors, std::uint64_t max_bytes)
    : path_(path),
      replaces_shards_(max_bytes > 0),
      tensors_(std::move(tensors)),
      written_(tensors_.size()) {
  open(metadata, max_bytes, nullptr);
}

GgufWriter::GgufWriter(const fs::path& path, const GgufMetadata& metadata,
                       std::vector<GgufTensorDeclaration> tensors, std::uint64_t max_bytes,
                       const std::vector<std::string>& identities)
    : path_(path),
      replaces_shards_(max_bytes > 0),
      tensors_(std::move(tensors)),
      written_(tensors_.size()) {
  open(metadata, max_bytes, &identities);
}

void GgufWriter::open(const GgufMetadata& metadata, std::uint64_t max_bytes,
                      const std::vector<std::string>* identities) {
  check_metadata(metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    check_tensor(tensors_[i]);
    if (!index_.emplace(tensors_[i].name, i).second)
      refuse_call(fmt::format("GGUF tensor {} is declared twice", quote_name(tensors_[i].name)));
  }
  const std::vector<GgufShard> shards = gguf_shards(metadata, tensors_, max_bytes);
  for (std::size_t n = 0; n < shards.size(); ++n) {
    paths_.push_back(shards.size() == 1 ? path_ : gguf_shard_path(path_, n + 1, shards.size()));
    const std::span<const GgufTensorDeclaration> own =
        std::span(tensors_).subspan(shards[n].first_tensor, shards[n].tensors);
    const std::string header = header_of(shards[n].metadata, own);
    std::uint64_t end = header.size();
    for (const GgufTensorDeclaration& tensor : own) {
      places_.push_back({n, end});
      end += gguf_padded(tensor.byte_count());
    }
    files_.push_back(identities == nullptr
                         ? begun(paths_.back(), end, header)
                         : reopened(paths_.back(), end, header, identities->at(n)));
    file_bytes_ += end;
  }
}

void GgufWriter::mark_written(std::string_view name, std::uint64_t bytes) {
  written_[index_of(name)] += bytes;
}

std::vector<std::string> GgufWriter::keep() {
  std::vector<std::string> identities;
  for (std::size_t n = 0; n < files_.size(); ++n) {
    files_[n].keep();
    identities.push_back(identity_of(AtomicFile::partial_name(paths_[n])));
  }
  return identities;
}

std::size_t GgufWriter::index_of(std::string_view name) const {
  const auto found = index_.find(name);
  if (found == index_.end())
    refuse_call(fmt::format("GGUF tensor {} was never declared", quote_name(name)));
  return found->second;
}

void GgufWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const std::uint64_t declared = tensors_[index_of(name)].byte_count();
  if (bytes.size() != declared)
    refuse_call(fmt::format("GGUF tensor {} was declared with {} bytes, {} come", quote_name(name),
                            declared, bytes.size()));
  write_part(name, 0, bytes);
}

void GgufWriter::write_part(std::string_view name, std::uint64_t offset,
                            std::span<const std::byte> bytes) {
  const std::size_t i = index_of(name);
  const std::uint64_t declared = tensors_[i].byte_count();
  if (offset > declared || bytes.size() > declared - offset)
    refuse_call(fmt::format("GGUF tensor {} was declared with {} bytes, {} come at {}",
                            quote_name(name), declared, bytes.size(), offset));
  if (bytes.size() > declared - written_[i])
    refuse_call(fmt::format("GGUF tensor {} is written twice", quote_name(name)));
  require_finite(tensors_[i], offset, bytes);
  AtomicFile& file = files_[places_[i].shard];
  file.write_at(places_[i].offset + offset, bytes);
  written_[i] += bytes.size();
  if (written_[i] < declared) return;
  const std::vector<std::byte> zeros(gguf_padded(declared) - declared);
  file.write_at(places_[i].offset + declared, zeros);
}

// Loaders open the first shard first, so it is renamed last.
void GgufWriter::finish() {
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (written_[i] < tensors_[i].byte_count())
      refuse_call(fmt::format("GGUF tensor {} was declared and {} written",
                              quote_name(tensors_[i].name),
                              written_[i] == 0 ? "never" : "only in part"));
  commit_together(files_, paths_);
  if (replaces_shards_) remove_others(path_, paths_);
}

std::uint64_t GgufWriter::file_bytes() const { return file_bytes_; }

}  // namespace calque::io
