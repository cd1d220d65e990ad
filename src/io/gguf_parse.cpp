#include "io/gguf_parse.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <set>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "io/gguf_cursor.h"
#include "io/refuse.h"

namespace calque::io {
namespace {

// Files are little-endian, and so is the memory that their bytes are copied to.
static_assert(std::endian::native == std::endian::little);

constexpr std::uint64_t kMaxStringBytes = std::uint64_t{1} << 30;  // as ggml's reader

struct Counts {
  std::uint64_t tensors = 0;
  std::uint64_t keys = 0;
};

Counts read_header(GgufCursor& cursor) {
  constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
  if (cursor.number<std::uint32_t>("the header") != kMagic)
    refuse("is not a GGUF file (its first bytes are not 'GGUF')");
  const auto version = cursor.number<std::uint32_t>("the header");
  if ((version & 0xffffu) == 0 && version != 0)
    refuse("is a big-endian GGUF file; only little-endian files are read");
  if (version < 2 || version > 3)
    refuse(fmt::format("GGUF version {} is not supported (2 and 3 are)", version));
  Counts counts;
  counts.tensors = cursor.number<std::uint64_t>("the header");
  counts.keys = cursor.number<std::uint64_t>("the header");
  // The smallest key: its length, one letter, the type and a value of one byte; the smallest
  // tensor: the length of its name, the rank, one dimension, the type and the offset.
  cursor.check_count(counts.keys, 8 + 1 + 4 + 1, "metadata");
  cursor.check_count(counts.tensors, 8 + 4 + 8 + 4 + 8, "tensor list");
  return counts;
}

// Type ids 0 ... 12 in the order of the alternatives, array (9) between string and u64.
template <typename T>
T read_scalar(GgufCursor& cursor, const std::string& what) {
  if constexpr (std::is_same_v<T, std::string>)
    return cursor.string(what);
  else if constexpr (std::is_same_v<T, bool>)
    return cursor.boolean(what);
  else
    return cursor.number<T>(what);
}

// Calls `use` with a value-initialized object of the C++ type that `type` stands for.
template <typename Use>
GgufValue with_type(std::uint32_t type, const std::string& what, Use use) {
  switch (type) {
    case 0:
      return use(std::uint8_t{});
    case 1:
      return use(std::int8_t{});
    case 2:
      return use(std::uint16_t{});
    case 3:
      return use(std::int16_t{});
    case 4:
      return use(std::uint32_t{});
    case 5:
      return use(std::int32_t{});
    case 6:
      return use(float{});
    case 7:
      return use(bool{});
    case 8:
      return use(std::string{});
    case 10:
      return use(std::uint64_t{});
    case 11:
      return use(std::int64_t{});
    case 12:
      return use(double{});
    default:
      refuse(fmt::format("{}: value type {} does not exist", what, type));
  }
}

GgufValue read_array(GgufCursor& cursor, const std::string& what) {
  const auto type = cursor.number<std::uint32_t>(what);
  if (type == kGgufArrayType) refuse(fmt::format("{}: an array of arrays", what));
  const auto count = cursor.number<std::uint64_t>(what);
  constexpr std::uint64_t kMaxCount = std::uint64_t{1} << 30;  // as ggml's reader
  if (count > kMaxCount)
    refuse(fmt::format("{}: an array of {} is above the limit of {}", what, count, kMaxCount));
  return with_type(type, what, [&](auto zero) {
    using T = decltype(zero);
    constexpr bool kText = std::is_same_v<T, std::string>;
    cursor.check_count(count, kText ? sizeof(std::uint64_t) : sizeof(T), what);
    std::vector<T> values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(read_scalar<T>(cursor, what));
    return GgufValue(GgufValue::Array(std::move(values)));
  });
}

GgufValue read_value(GgufCursor& cursor, const std::string& what) {
  const auto type = cursor.number<std::uint32_t>(what);
  if (type == kGgufArrayType) return read_array(cursor, what);
  return with_type(type, what, [&](auto zero) {
    return GgufValue(GgufValue::Scalar(read_scalar<decltype(zero)>(cursor, what)));
  });
}

GgufMetadata read_metadata(GgufCursor& cursor, std::uint64_t count) {
  GgufMetadata metadata;
  std::set<std::string> keys;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string key = cursor.string(fmt::format("the name of key {} of {}", i + 1, count));
    if (key.empty()) refuse(fmt::format("key {} of {} has no name", i + 1, count));
    const std::string what = "key " + quote_name(key);
    if (!keys.insert(key).second) refuse(what + " is given twice");
    metadata.emplace_back(std::move(key), read_value(cursor, what));
  }
  return metadata;
}

std::uint64_t alignment_of(const GgufMetadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key != "general.alignment") continue;
    const auto* scalar = std::get_if<GgufValue::Scalar>(&value.value);
    const auto* alignment = scalar ? std::get_if<std::uint32_t>(scalar) : nullptr;
    if (!alignment) refuse("key 'general.alignment' is not a u32");
    if (!std::has_single_bit(*alignment))
      refuse(fmt::format("key 'general.alignment' is {}, not a power of two", *alignment));
    return *alignment;
  }
  return kGgufDefaultAlignment;
}

struct TensorRecord {
  GgufTensor tensor;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
  std::string described() const {
    return fmt::format("tensor {} ({} [{}])", quote_name(tensor.name),
                       ggml::info_of(tensor.type).name, fmt::join(tensor.ne, ", "));
  }
};

std::vector<std::uint64_t> read_shape(GgufCursor& cursor, const std::string& what) {
  const auto rank = cursor.number<std::uint32_t>(what);
  if (rank < 1 || rank > kGgufMaxDimensions)
    refuse(fmt::format("{}: {} dimensions, 1 to {} are possible", what, rank, kGgufMaxDimensions));
  std::vector<std::uint64_t> ne(rank);
  for (std::uint64_t& size : ne) {
    size = cursor.number<std::uint64_t>(what);
    if (size >> 63 != 0) refuse(fmt::format("{}: a dimension of {} is out of range", what, size));
  }
  return ne;
}

void check_shape(TensorRecord& record) {
  const ggml::TypeInfo& info = ggml::info_of(record.tensor.type);
  const auto block = static_cast<std::uint64_t>(info.block_columns);
  if (record.tensor.ne[0] % block != 0)
    refuse(fmt::format("{}: rows of {} are not whole blocks of {}", record.described(),
                       record.tensor.ne[0], block));
  const auto bytes = ggml_byte_count(record.tensor.type, record.tensor.ne);
  if (!bytes) refuse(fmt::format("{}: its shape needs more than 2^63 bytes", record.described()));
  record.bytes = *bytes;
}

TensorRecord read_tensor(GgufCursor& cursor, std::uint64_t number) {
  TensorRecord record;
  record.tensor.name = cursor.string(fmt::format("the name of tensor {}", number));
  const std::string what = "tensor " + quote_name(record.tensor.name);
  if (record.tensor.name.size() > kGgufMaxNameBytes)
    refuse(fmt::format("{}: a name of {} bytes, at most {} are possible", what,
                       record.tensor.name.size(), kGgufMaxNameBytes));
  record.tensor.ne = read_shape(cursor, what);
  const auto type = cursor.number<std::uint32_t>(what);
  const ggml::TypeInfo* info = ggml::find_type(type);
  if (!info) refuse(fmt::format("{}: tensor type {} is unknown or was removed", what, type));
  record.tensor.type = info->type;
  record.offset = cursor.number<std::uint64_t>(what);
  check_shape(record);
  return record;
}

std::vector<TensorRecord> read_tensors(GgufCursor& cursor, std::uint64_t count) {
  std::vector<TensorRecord> records;
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    records.push_back(read_tensor(cursor, i + 1));
    if (!names.insert(records.back().tensor.name).second)
      refuse(fmt::format("{} is listed twice", records.back().described()));
  }
  return records;
}

std::uint64_t padding(std::uint64_t size, std::uint64_t alignment) {
  return (alignment - size % alignment) % alignment;
}

// Offsets must be the running sum of the padded sizes; as every tensor is also checked against the
// end of the file, the sum stays below the size of the file and cannot overflow.
void place(std::vector<TensorRecord>& records, std::span<const std::byte> file,
           std::uint64_t header_bytes, std::uint64_t alignment) {
  if (records.empty()) return;
  const std::uint64_t start = header_bytes + padding(header_bytes, alignment);
  std::uint64_t next = 0;
  for (TensorRecord& record : records) {
    if (record.offset != next)
      refuse(fmt::format("{}: its offset is {}, but the tensors before it end at {}",
                         record.described(), record.offset, next));
    const std::uint64_t position = std::min<std::uint64_t>(start + next, file.size());
    if (record.bytes > file.size() - position)
      refuse(fmt::format("{} needs {} bytes, but the file has {} left; is the download complete?",
                         record.described(), record.bytes, file.size() - position));
    record.tensor.bytes = file.subspan(position, record.bytes);
    next += record.bytes + padding(record.bytes, alignment);
  }
}

}  // namespace

void GgufCursor::require(std::uint64_t bytes, std::string_view what) const {
  if (bytes <= left()) return;
  refuse(
      fmt::format("the file ends inside {}: {} bytes needed at offset {}, {} left; is the "
                  "download complete?",
                  what, bytes, position_, left()));
}

std::string GgufCursor::string(std::string_view what) {
  const auto length = number<std::uint64_t>(what);
  if (length > kMaxStringBytes)
    refuse(fmt::format("{}: a text of {} bytes is above the limit of {}", what, length,
                       kMaxStringBytes));
  require(length, what);
  const auto* start = reinterpret_cast<const char*>(bytes_.data() + position_);
  position_ += length;
  return {start, static_cast<std::size_t>(length)};
}

void GgufCursor::check_count(std::uint64_t count, std::uint64_t bytes_each,
                             std::string_view what) const {
  if (count <= left() / bytes_each) return;
  refuse(
      fmt::format("{}: a count of {} needs at least {} bytes each, {} bytes are left in the file",
                  what, count, bytes_each, left()));
}

std::optional<std::uint64_t> ggml_byte_count(ggml::Type type, std::span<const std::uint64_t> ne) {
  const ggml::TypeInfo& info = ggml::info_of(type);
  // Zeros are skipped, so that no partial product can overflow in later arithmetic either.
  std::int64_t count = 1;
  for (const std::uint64_t size : ne)
    if (size != 0 && __builtin_mul_overflow(count, size, &count)) return std::nullopt;
  const auto block = static_cast<std::uint64_t>(info.block_columns);
  if (!ne.empty() && ne[0] % block != 0) return std::nullopt;
  if (std::find(ne.begin(), ne.end(), 0) != ne.end()) return 0;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(count / info.block_columns, info.block_bytes, &bytes))
    return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

GgufContents parse_gguf(std::span<const std::byte> file) {
  GgufCursor cursor(file);
  const Counts counts = read_header(cursor);
  GgufContents contents;
  contents.metadata = read_metadata(cursor, counts.keys);
  const std::uint64_t alignment = alignment_of(contents.metadata);
  std::vector<TensorRecord> records = read_tensors(cursor, counts.tensors);
  place(records, file, cursor.position(), alignment);
  for (TensorRecord& record : records) contents.tensors.push_back(std::move(record.tensor));
  return contents;
}

}  // namespace calque::io
