#include <fmt/format.h>
#include <fmt/ranges.h>

#include "calque/core/error.h"
#include "calque/core/finite.h"
#include "calque/core/names.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "io/refuse.h"
#include "io/resource_error.h"
#include "io/safetensors_header.h"

namespace calque::io {
namespace {

using Group = std::vector<TensorDeclaration>;

// The last check of every number that is stored: callers with more to say have looked before.
void require_finite(const TensorDeclaration& tensor, std::span<const std::byte> bytes) {
  const std::optional<std::size_t> at = first_nonfinite(bytes, tensor.dtype);
  if (!at) return;
  const std::size_t columns =
      tensor.shape.empty() ? 1 : static_cast<std::size_t>(tensor.shape.back());
  float value = 0;
  convert_to_float(bytes.data() + *at * size_of(tensor.dtype), tensor.dtype, 1, &value);
  throw Error(ErrorKind::kNumerical, "E402",
              fmt::format("tensor {}: row {}, column {} would be stored as {} in {}, which nothing "
                          "can compute with",
                          quote_name(tensor.name), *at / columns, *at % columns,
                          unsigned_nan(value), name_of(tensor.dtype)));
}

// Greedily, in order: a shard is closed when the next tensor would not fit.
std::vector<Group> split(std::vector<TensorDeclaration> tensors, std::uint64_t max_bytes) {
  std::vector<Group> groups(1);
  std::uint64_t filled = 0;
  for (TensorDeclaration& tensor : tensors) {
    const std::uint64_t bytes = tensor.byte_count();
    if (!groups.back().empty() && bytes > max_bytes - std::min(filled, max_bytes)) {
      groups.emplace_back();
      filled = 0;
    }
    filled += bytes;
    groups.back().push_back(std::move(tensor));
  }
  return groups;
}

std::string file_name(std::size_t shard, std::size_t count) {
  if (count == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, count);
}

// Names and offsets as JSON, preceded by the length, padded so that the data is 64-byte aligned.
std::string header_of(const Group& tensors, const std::vector<std::uint64_t>& ends) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  for (std::size_t i = 0; i < tensors.size(); ++i)
    json += fmt::format(R"(,{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                        json_string(tensors[i].name), name_of(tensors[i].dtype),
                        fmt::join(tensors[i].shape, ","), i == 0 ? 0 : ends[i - 1], ends[i]);
  json += "}";
  constexpr std::size_t kAlignment = 64;
  const std::size_t total = (8 + json.size() + kAlignment - 1) / kAlignment * kAlignment;
  json.resize(total - 8, ' ');
  const std::uint64_t length = json.size();
  std::string header(reinterpret_cast<const char*>(&length), sizeof(length));
  return header + json;
}

std::vector<std::uint64_t> ends_of(const Group& tensors) {
  std::vector<std::uint64_t> ends;
  for (const TensorDeclaration& tensor : tensors)
    ends.push_back((ends.empty() ? 0 : ends.back()) + tensor.byte_count());
  if (ends.empty()) ends.push_back(0);
  return ends;
}

// Reopens a shard that was finished before its folder was.
AtomicFile reopened(const std::filesystem::path& path, std::uint64_t bytes) {
  if (!std::filesystem::exists(AtomicFile::partial_name(path)) && std::filesystem::exists(path))
    AtomicFile::take_back(path);
  return {path, GoOn{bytes}};
}

// The index file; `shard_of` maps names to shards, in order of the names.
template <typename ShardOf>
std::string index_text(std::uint64_t total_bytes, const ShardOf& shard_of, std::size_t shards) {
  Json weight_map = Json::object();
  for (const auto& [name, place] : shard_of)
    weight_map.append(name, file_name(place.first, shards));
  const Json index = {{"metadata", {{"total_size", total_bytes}}},
                      {"weight_map", std::move(weight_map)}};
  return index.dump(2) + "\n";
}

}  // namespace

std::vector<std::pair<std::string, std::uint64_t>> safetensors_file_sizes(
    std::vector<TensorDeclaration> tensors, std::uint64_t max_shard_bytes) {
  const std::vector<Group> groups = split(std::move(tensors), max_shard_bytes);
  std::vector<std::pair<std::string, std::uint64_t>> sizes;
  std::map<std::string, std::pair<std::size_t, std::size_t>> places;
  std::uint64_t total_bytes = 0;
  for (std::size_t s = 0; s < groups.size(); ++s) {
    const std::vector<std::uint64_t> ends = ends_of(groups[s]);
    const std::uint64_t data_bytes = ends.back();
    sizes.emplace_back(file_name(s, groups.size()), header_of(groups[s], ends).size() + data_bytes);
    for (const TensorDeclaration& tensor : groups[s]) places[tensor.name] = {s, 0};
    total_bytes += data_bytes;
  }
  if (groups.size() > 1)
    sizes.emplace_back(kSafetensorsIndex, index_text(total_bytes, places, groups.size()).size());
  return sizes;
}

std::uint64_t TensorDeclaration::byte_count() const {
  return checked_byte_count({name, dtype, shape, 0, 0});
}

struct SafetensorsWriter::Shard {
  Shard(const std::filesystem::path& path, Group declarations, bool go_on)
      : tensors(std::move(declarations)),
        ends(ends_of(tensors)),
        header(header_of(tensors, ends)),
        file(go_on ? reopened(path, header.size() + ends.back()) : AtomicFile(path)),
        written(tensors.size()) {
    if (go_on) {
      require_header(file, header, path);
    } else {
      file.reserve(data_start() + ends.back());
      file.append(header);
    }
  }
  std::uint64_t data_start() const { return header.size(); }
  std::uint64_t begin(std::size_t i) const { return i == 0 ? 0 : ends[i - 1]; }

  Group tensors;
  std::vector<std::uint64_t> ends;  // end of each tensor's data, relative to data_start()
  std::string header;
  AtomicFile file;
  std::vector<bool> written;
};

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder,
                                     std::vector<TensorDeclaration> tensors,
                                     std::uint64_t max_shard_bytes)
    : folder_(std::move(folder)) {
  declare(std::move(tensors), max_shard_bytes, false);
}

SafetensorsWriter::SafetensorsWriter(GoOn, std::filesystem::path folder,
                                     std::vector<TensorDeclaration> tensors,
                                     std::uint64_t max_shard_bytes)
    : folder_(std::move(folder)) {
  declare(std::move(tensors), max_shard_bytes, true);
}

void SafetensorsWriter::declare(std::vector<TensorDeclaration> tensors,
                                std::uint64_t max_shard_bytes, bool go_on) {
  for (const TensorDeclaration& tensor : tensors) total_bytes_ += tensor.byte_count();
  std::vector<Group> groups = split(std::move(tensors), max_shard_bytes);
  for (std::size_t s = 0; s < groups.size(); ++s) {
    for (std::size_t i = 0; i < groups[s].size(); ++i)
      if (!where_.emplace(groups[s][i].name, std::pair(s, i)).second)
        refuse_call(fmt::format("tensor {} is declared twice", quote_name(groups[s][i].name)));
    shards_.push_back(std::make_unique<Shard>(folder_ / file_name(s, groups.size()),
                                              std::move(groups[s]), go_on));
  }
}

SafetensorsWriter::~SafetensorsWriter() = default;

std::pair<std::size_t, std::size_t> SafetensorsWriter::place_of(std::string_view name) const {
  const auto found = where_.find(name);
  if (found == where_.end())
    refuse_call(fmt::format("tensor {} was never declared", quote_name(name)));
  return found->second;
}

void SafetensorsWriter::mark_written(std::string_view name) {
  const auto [s, i] = place_of(name);
  shards_[s]->written[i] = true;
}

void SafetensorsWriter::keep() {
  for (const auto& shard : shards_) shard->file.keep();
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto [s, i] = place_of(name);
  Shard& shard = *shards_[s];
  if (bytes.size() != shard.tensors[i].byte_count())
    refuse_call(fmt::format("tensor {} was declared with {} bytes, {} come", quote_name(name),
                            shard.tensors[i].byte_count(), bytes.size()));
  if (shard.written[i]) refuse_call(fmt::format("tensor {} is written twice", quote_name(name)));
  require_finite(shard.tensors[i], bytes);
  shard.file.write_at(shard.data_start() + shard.begin(i), bytes);
  shard.written[i] = true;
}

void SafetensorsWriter::finish() {
  for (const auto& shard : shards_)
    for (std::size_t i = 0; i < shard->tensors.size(); ++i)
      if (!shard->written[i])
        refuse_call(fmt::format("tensor {} was declared and never written",
                                quote_name(shard->tensors[i].name)));
  for (const auto& shard : shards_) shard->file.commit();
  if (shards_.size() > 1)
    write_file(folder_ / kSafetensorsIndex, index_text(total_bytes_, where_, shards_.size()));
}

}  // namespace calque::io
