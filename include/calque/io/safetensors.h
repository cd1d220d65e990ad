#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/core/matrix.h"
#include "calque/io/file.h"

namespace calque::io {

// A tensor inside a mapped file. `bytes` borrows from the SafetensorsFile / Checkpoint it came from
// and may be unaligned.
struct TensorRef {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;  // empty: a scalar
  std::span<const std::byte> bytes;
  const MappedFile* file = nullptr;

  Index element_count() const;
  std::string shape_text() const;  // "[14336, 4096]"
};

// One .safetensors file, mapped. Layout: u64 LE header length, JSON header, data; offsets relative
// to the end of the header (https://github.com/huggingface/safetensors, README "Format").
//
// The constructor checks the whole header and throws Error(kInput), naming file, tensor and values:
// header length beyond the file or above 100 MB, invalid JSON, duplicate tensor names, unknown
// dtype, negative or overflowing shapes, offsets reversed, overlapping, past the end, not of the
// size that dtype and shape need, holes between tensors or bytes after the last one.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  // The tensors in order of their offsets.
  const std::vector<TensorRef>& tensors() const { return tensors_; }
  // Null if there is no such tensor.
  const TensorRef* find(std::string_view name) const;
  // The "__metadata__" strings.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  std::unique_ptr<MappedFile> file_;
  std::vector<TensorRef> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// The tensors of a Hugging Face folder: "model.safetensors", or "model.safetensors.index.json" with
// its shards. Checks that the index and the shards name the same tensors, each once. Throws
// Error(kInput); a missing shard is named, and a folder that only holds pickles (*.bin) is refused
// with the reason.
class SafetensorsCheckpoint {
 public:
  explicit SafetensorsCheckpoint(const std::filesystem::path& folder);

  const std::vector<TensorRef>& tensors() const { return tensors_; }
  const TensorRef* find(std::string_view name) const;
  // As find, but a missing tensor is Error(kInput) with the nearest existing name.
  const TensorRef& at(std::string_view name) const;
  std::uint64_t total_bytes() const;  // tensor data
  std::vector<std::filesystem::path> files() const;

 private:
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<TensorRef> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

// A floating tensor widened to fp32. `to_matrix` wants rank 2, or more, whose first dimensions
// become one of rows; `to_vector` wants rank 1.
// Error(kInput) otherwise.
Matrix<float> to_matrix(const TensorRef& tensor);
std::vector<float> to_vector(const TensorRef& tensor);

// A tensor that a writer will receive, declared before any bytes are written.
struct TensorDeclaration {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;

  std::uint64_t byte_count() const;
};

// The files that a SafetensorsWriter with these arguments would write, and their lengths in bytes.
std::vector<std::pair<std::string, std::uint64_t>> safetensors_file_sizes(
    std::vector<TensorDeclaration> tensors, std::uint64_t max_shard_bytes = 5'000'000'000);

// Writes model.safetensors, or model-0000X-of-0000N.safetensors and model.safetensors.index.json if
// the data exceeds `max_shard_bytes` (a single larger tensor gets a shard of its own). Headers
// carry
// {"format": "pt"} and are padded with spaces so that the data starts at a multiple of 64 bytes;
// tensors of one shard lie back to back in declaration order, as the format demands.
// Since everything is declared first, tensors may be written in any order and in bounded memory.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::filesystem::path folder, std::vector<TensorDeclaration> tensors,
                    std::uint64_t max_shard_bytes = 5'000'000'000);
  // Continues the files that an earlier process kept in `folder`; pass the tensors it had written
  // to mark_written(). Error(kInput, "E308") for a file that is missing, too short or another one.
  SafetensorsWriter(GoOn, std::filesystem::path folder, std::vector<TensorDeclaration> tensors,
                    std::uint64_t max_shard_bytes = 5'000'000'000);
  ~SafetensorsWriter();

  // `bytes` must be exactly as many as declared, and each tensor is written once (both asserted).
  // Error(kNumerical, "E402") for a number that is infinite or NaN.
  void write(std::string_view name, std::span<const std::byte> bytes);
  void mark_written(std::string_view name);
  // Calls AtomicFile::keep on every file.
  void keep();
  // Makes the files visible. Throws Error(kInternal) if a declared tensor was never written.
  void finish();

 private:
  struct Shard;
  void declare(std::vector<TensorDeclaration> tensors, std::uint64_t max_shard_bytes, bool go_on);
  std::pair<std::size_t, std::size_t> place_of(std::string_view name) const;

  std::filesystem::path folder_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::map<std::string, std::pair<std::size_t, std::size_t>, std::less<>> where_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace calque::io
