#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/ggml/types.h"
#include "calque/io/file.h"

namespace calque::io {

// A metadata value. Arrays hold one element type; arrays of arrays do not exist in readable files.
// Integers keep their stored width, because loaders insist on it.
struct GgufValue {
  using Scalar =
      std::variant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t,
                   std::int32_t, float, bool, std::string, std::uint64_t, std::int64_t, double>;
  using Array =
      std::variant<std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                   std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                   std::vector<float>, std::vector<bool>, std::vector<std::string>,
                   std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;
  std::variant<Scalar, Array> value;

  GgufValue() = default;
  GgufValue(Scalar scalar) : value(std::move(scalar)) {}
  GgufValue(Array array) : value(std::move(array)) {}
};

using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // in file order

struct GgufTensor {
  std::string name;
  ggml::Type type = ggml::Type::kF32;
  std::vector<std::uint64_t> ne;     // ne[0] is contiguous: the reverse of a PyTorch shape
  std::span<const std::byte> bytes;  // borrows from the GgufFile
  const MappedFile* file = nullptr;  // the mapped file that holds `bytes`

  std::uint64_t element_count() const;
};

// A GGUF v2/v3 file, mapped. Opening the first shard of a set (`-00001-of-0000N`) opens all of
// them; opening a later one is refused. The constructor throws Error(kInput) for anything that
// contradicts itself or the file's length; the message names the file, the key or tensor, and the
// values.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  const GgufValue* find(std::string_view key) const;
  std::uint64_t file_bytes() const;  // sum over shards

  // Typed access. A missing key gives nullopt; a key of another kind is Error(kInput).
  // Any stored integer width (signed or not) is accepted by `integer`, f32/f64 by `real`.
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;

 private:
  std::filesystem::path path_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> tensor_index_;
  std::map<std::string, std::size_t, std::less<>> key_index_;
};

struct GgufTensorDeclaration {
  std::string name;
  ggml::Type type = ggml::Type::kF32;
  std::vector<std::uint64_t> ne;

  std::uint64_t byte_count() const;
};

// The path of one shard of a split file: "out/model.gguf" becomes "out/model-00001-of-00003.gguf";
// `number` counts from 1.
std::filesystem::path gguf_shard_path(const std::filesystem::path& path, std::size_t number,
                                      std::size_t count);
// The existing files of `path`: the file itself and all files named as its shards.
std::vector<std::filesystem::path> gguf_files_of(const std::filesystem::path& path);
// The file to open for `path`: itself, or its first shard if there is no such file but one set of
// shards. `path` itself if there is neither.
std::filesystem::path gguf_entry_of(const std::filesystem::path& path);

// The files that a GgufWriter with these arguments would write at `path`, and their lengths.
std::vector<std::pair<std::filesystem::path, std::uint64_t>> gguf_file_sizes(
    const std::filesystem::path& path, const GgufMetadata& metadata,
    std::span<const GgufTensorDeclaration> tensors, std::uint64_t max_bytes = 0);

// Writes GGUF v3: little-endian, alignment 32, offsets as the running sum of padded sizes, zero
// padding after every tensor. All tensors are declared first, so they may be written in any order
// in bounded memory. Tensors that do not fit into one file of `max_bytes` are split over several,
// in order. No file is longer than that unless it holds a single longer tensor; every file has the
// split.* keys, and only the first has the other keys. The files become visible together in
// finish(), where they replace gguf_files_of(path); with `max_bytes` 0, one file replaces the one
// at `path`. Error(kInternal) for names of 64 bytes or more, duplicate names or keys, more than 4
// dimensions, rows that are not whole blocks, and more than 65535 shards; planning must prevent
// them.
class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::vector<GgufTensorDeclaration> tensors, std::uint64_t max_bytes = 0);
  // Continues files that an earlier process kept; `identities` is what its keep() returned, and the
  // tensors it had written must be passed to mark_written(). Files that already had their final
  // names become partial again. Error(kInput, "E308") for a file that is missing, too short or
  // another one.
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::vector<GgufTensorDeclaration> tensors, std::uint64_t max_bytes,
             const std::vector<std::string>& identities);

  // Records that `bytes` of the tensor were written by an earlier process.
  void mark_written(std::string_view name, std::uint64_t bytes);
  // Calls AtomicFile::keep on every file. Returns the identities to continue with.
  std::vector<std::string> keep();
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Writes rows of a tensor, such as one expert's slab, from byte `offset` of the tensor on.
  // finish() requires as many bytes as were declared. Error(kNumerical, "E402") for a number, or a
  // block's scale, that is infinite or NaN.
  void write_part(std::string_view name, std::uint64_t offset, std::span<const std::byte> bytes);
  void finish();
  std::uint64_t file_bytes() const;  // sum over shards

 private:
  struct Place {
    std::size_t shard;
    std::uint64_t offset;  // from the start of the file
  };
  std::size_t index_of(std::string_view name) const;
  // `identities` is null for new files.
  void open(const GgufMetadata& metadata, std::uint64_t max_bytes,
            const std::vector<std::string>* identities);

  std::filesystem::path path_;
  bool replaces_shards_;
  std::vector<std::filesystem::path> paths_;
  std::vector<AtomicFile> files_;
  std::vector<GgufTensorDeclaration> tensors_;
  std::vector<Place> places_;
  std::vector<std::uint64_t> written_;  // bytes
  std::map<std::string, std::size_t, std::less<>> index_;
  std::uint64_t file_bytes_ = 0;
};

}  // namespace calque::io
