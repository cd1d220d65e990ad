#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <type_traits>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/gguf.h"
#include "io/gguf_parse.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorKind::kInternal, "", reason);
}

std::uint64_t padded(std::uint64_t size) {
  constexpr std::uint64_t kAlignment = kGgufDefaultAlignment;
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

class Buffer {
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
  void pad() { bytes_.resize(padded(bytes_.size()), '\0'); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// The stored ids run through the alternatives in order, with 9 (array) before u64.
std::uint32_t type_id(std::size_t alternative) {
  return static_cast<std::uint32_t>(alternative < 9 ? alternative : alternative + 1);
}

constexpr std::uint32_t kArrayType = 9;

void add_value(Buffer& buffer, const GgufValue& value) {
  if (const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value)) {
    buffer.add(type_id(scalar->index()));
    std::visit([&](const auto& stored) { buffer.add(stored); }, *scalar);
    return;
  }
  const auto& array = std::get<GgufValue::Array>(value.value);
  buffer.add(kArrayType);
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
    if (key.empty()) refuse("a GGUF key has no name");
    if (!keys.insert(key).second) refuse(fmt::format("GGUF key {} is set twice", quote_name(key)));
    if (key != "general.alignment") continue;
    const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
    if (!scalar || *scalar != GgufValue::Scalar(std::uint32_t{kGgufDefaultAlignment}))
      refuse("GGUF key 'general.alignment' must be the u32 32: the writer aligns to that");
  }
}

void check_tensor(const GgufTensorDeclaration& tensor) {
  if (tensor.name.size() > kGgufMaxNameBytes)
    refuse(fmt::format("GGUF tensor name {} has {} bytes, readers take at most {}",
                       quote_name(tensor.name), tensor.name.size(), kGgufMaxNameBytes));
  if (tensor.ne.empty() || tensor.ne.size() > kGgufMaxDimensions)
    refuse(fmt::format("GGUF tensor {} has {} dimensions, 1 to {} are possible",
                       quote_name(tensor.name), tensor.ne.size(), kGgufMaxDimensions));
}

std::string header_of(const GgufMetadata& metadata,
                      const std::vector<GgufTensorDeclaration>& tensors) {
  Buffer buffer;
  for (const char letter : {'G', 'G', 'U', 'F'}) buffer.add(letter);
  buffer.add(std::uint32_t{3});
  buffer.add(std::uint64_t{tensors.size()});
  buffer.add(std::uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    buffer.add(key);
    add_value(buffer, value);
  }
  std::uint64_t offset = 0;
  for (const GgufTensorDeclaration& tensor : tensors) {
    buffer.add(tensor.name);
    buffer.add(static_cast<std::uint32_t>(tensor.ne.size()));
    for (const std::uint64_t size : tensor.ne) buffer.add(size);
    buffer.add(static_cast<std::uint32_t>(tensor.type));
    buffer.add(offset);
    offset += padded(tensor.byte_count());
  }
  buffer.pad();
  return buffer.bytes();
}

}  // namespace

std::uint64_t GgufTensorDeclaration::byte_count() const {
  const auto bytes = ggml_byte_count(type, ne);
  if (!bytes)
    refuse(fmt::format("GGUF tensor {} ({} [{}]): rows are not whole blocks of {}, or too large",
                       quote_name(name), info_of(type).name, fmt::join(ne, ", "),
                       info_of(type).block_elements));
  return *bytes;
}

GgufWriter::GgufWriter(std::filesystem::path path, const GgufMetadata& metadata,
                       std::vector<GgufTensorDeclaration> tensors)
    : file_(std::move(path)), tensors_(std::move(tensors)), written_(tensors_.size()) {
  check_metadata(metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    check_tensor(tensors_[i]);
    if (!index_.emplace(tensors_[i].name, i).second)
      refuse(fmt::format("GGUF tensor {} is declared twice", quote_name(tensors_[i].name)));
  }
  const std::string header = header_of(metadata, tensors_);
  file_bytes_ = header.size();
  for (const GgufTensorDeclaration& tensor : tensors_) {
    offsets_.push_back(file_bytes_);
    file_bytes_ += padded(tensor.byte_count());
  }
  file_.reserve(file_bytes_);
  file_.append(header);
}

void GgufWriter::write(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = index_.find(name);
  if (found == index_.end())
    refuse(fmt::format("GGUF tensor {} was never declared", quote_name(name)));
  const std::size_t i = found->second;
  if (bytes.size() != tensors_[i].byte_count())
    refuse(fmt::format("GGUF tensor {} was declared with {} bytes, {} come", quote_name(name),
                       tensors_[i].byte_count(), bytes.size()));
  if (written_[i]) refuse(fmt::format("GGUF tensor {} is written twice", quote_name(name)));
  file_.write_at(offsets_[i], bytes);
  const std::vector<std::byte> zeros(padded(bytes.size()) - bytes.size());
  file_.write_at(offsets_[i] + bytes.size(), zeros);
  written_[i] = true;
}

void GgufWriter::finish() {
  for (std::size_t i = 0; i < tensors_.size(); ++i)
    if (!written_[i])
      refuse(fmt::format("GGUF tensor {} was declared and never written",
                         quote_name(tensors_[i].name)));
  file_.commit();
}

std::uint64_t GgufWriter::file_bytes() const { return file_bytes_; }

}  // namespace calque::io
