#include <fmt/format.h>

#include <cstring>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/safetensors.h"
#include "io/refuse.h"
#include "io/safetensors_header.h"

namespace calque::io {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference reader

std::string_view text_of_bytes(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Refuses the small text files that a clone without git-lfs has in place of weights.
void refuse_lfs_pointer(std::span<const std::byte> file) {
  if (text_of_bytes(file).starts_with("version https://git-lfs"))
    refuse("is a git-lfs pointer, not the file itself; download it with 'git lfs pull'");
}

std::uint64_t header_length(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes)
    refuse(fmt::format("{} bytes are too few for a safetensors file; is the download complete?",
                       file.size()));
  refuse_lfs_pointer(file);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes)
    refuse(
        fmt::format("header length {} is above the limit of {} bytes; is this a safetensors file?",
                    length, kMaxHeaderBytes));
  if (length > file.size() - kLengthBytes)
    refuse(
        fmt::format("header length {} goes past the end of the file ({} bytes); is the download "
                    "complete?",
                    length, file.size()));
  return length;
}

Error not_floating(const TensorRef& tensor) {
  return Error(ErrorKind::kInput, "E170",
               fmt::format("tensor {} ({} {}): floating-point values are needed",
                           quote_name(tensor.name), name_of(tensor.dtype), tensor.shape_text()));
}

void check_floating(const TensorRef& tensor) {
  if (!is_floating(tensor.dtype)) throw not_floating(tensor);
}

[[noreturn]] void refuse_rank(const TensorRef& tensor, const char* needed) {
  refuse(fmt::format("tensor {} ({} {}): {} needed", quote_name(tensor.name), name_of(tensor.dtype),
                     tensor.shape_text(), needed));
}

// An empty tensor may have null pointers, which memcpy does not allow.
void widen(const TensorRef& tensor, std::size_t count, float* out) {
  if (count > 0) convert_to_float(tensor.bytes.data(), tensor.dtype, count, out);
}

}  // namespace

Index TensorRef::element_count() const {
  Index count = 1;
  for (const Index size : shape) count *= size;
  return count;
}

std::string TensorRef::shape_text() const { return text_of(shape); }

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), file_(std::make_unique<MappedFile>(path)) {
  with_context(path.string(), [&] {
    const auto bytes = file_->bytes();
    const std::uint64_t length = header_length(bytes);
    const auto data = bytes.subspan(kLengthBytes + length);
    SafetensorsHeader header =
        parse_safetensors_header(text_of_bytes(bytes.subspan(kLengthBytes, length)), data.size());
    metadata_ = std::move(header.metadata);
    for (SafetensorsEntry& entry : header.entries) {
      index_.emplace(entry.name, tensors_.size());
      tensors_.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                          data.subspan(entry.begin, entry.end - entry.begin), file_.get()});
    }
  });
}

const TensorRef* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Matrix<float> to_matrix(const TensorRef& tensor) {
  check_floating(tensor);
  if (tensor.shape.size() < 2) refuse_rank(tensor, "2 dimensions are");
  const Index columns = tensor.shape.back();
  auto matrix =
      Matrix<float>::uninitialized(columns == 0 ? 0 : tensor.element_count() / columns, columns);
  widen(tensor, static_cast<std::size_t>(matrix.size()), matrix.data());
  return matrix;
}

std::vector<float> to_vector(const TensorRef& tensor) {
  check_floating(tensor);
  if (tensor.shape.size() != 1) refuse_rank(tensor, "1 dimension is");
  std::vector<float> values(static_cast<std::size_t>(tensor.shape[0]));
  widen(tensor, values.size(), values.data());
  return values;
}

}  // namespace calque::io
