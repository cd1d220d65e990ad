#include "calque/io/npy.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/io/file.h"

namespace calque::io {
namespace {

[[noreturn]] void refuse(const std::string& reason) { throw Error(ErrorKind::kInput, "", reason); }

struct Header {
  std::string dtype;  // "<i4"
  std::vector<std::int64_t> shape;
  bool fortran_order = false;
};

// The header is a Python dictionary literal,
//   {'descr': '<i4', 'fortran_order': False, 'shape': (3, 4), }
// always with these three keys. Only this much of Python is understood.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  Header read() {
    Header header;
    expect("{");
    while (!accept("}")) {
      read_entry(header);
      if (accept(",")) continue;
      expect("}");
      break;
    }
    if (!text_.empty() && text_.find_first_not_of(" \n") != text_.npos)
      refuse(fmt::format("unexpected {} after the header", quote_name(text_)));
    if (!dtype_ || !order_ || !shape_)
      refuse("the header must hold 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  void read_entry(Header& header) {
    const std::string_view key = read_text();
    expect(":");
    if (key == "descr" && !std::exchange(dtype_, true)) {
      if (peek() != '\'') refuse("structured types are not read, only plain integers");
      header.dtype = read_text();
    } else if (key == "fortran_order" && !std::exchange(order_, true)) {
      header.fortran_order = accept("True");
      if (!header.fortran_order) expect("False");
    } else if (key == "shape" && !std::exchange(shape_, true)) {
      header.shape = read_tuple();
    } else {
      refuse(fmt::format("unexpected key {} in the header", quote_name(key)));
    }
  }

  std::vector<std::int64_t> read_tuple() {
    std::vector<std::int64_t> values;
    expect("(");
    while (!accept(")")) {
      values.push_back(read_size());
      if (accept(",")) continue;
      expect(")");
      break;
    }
    return values;
  }

  std::int64_t read_size() {
    skip_space();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0)
      refuse(fmt::format("no dimension at {}", quote_name(text_)));
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }

  std::string_view read_text() {
    expect("'");
    const auto end = text_.find('\'');
    if (end == text_.npos) refuse("a text without an end in the header");
    const std::string_view value = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return value;
  }

  void skip_space() { text_.remove_prefix(std::min(text_.find_first_not_of(' '), text_.size())); }
  char peek() {
    skip_space();
    return text_.empty() ? '\0' : text_[0];
  }
  bool accept(std::string_view token) {
    skip_space();
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token))
      refuse(fmt::format("expected {} at {} in the header", token, quote_name(text_)));
  }

  std::string_view text_;
  bool dtype_ = false, order_ = false, shape_ = false;
};

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

// The header text; moves `bytes` on to the data.
std::string_view take_header(std::span<const std::byte>& bytes) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || bytes.size() < 10)
    refuse("is not a .npy file (its first bytes are not '\\x93NUMPY')");
  const int version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3)
    refuse(fmt::format(".npy version {} is not supported (1 to 3 are)", version));
  // Version 1 has a length of two bytes, the later ones of four.
  const std::size_t start = version == 1 ? 10 : 12;
  if (bytes.size() < start) refuse("the file ends inside the header");
  const std::uint32_t length =
      version == 1 ? load<std::uint16_t>(bytes, 8) : load<std::uint32_t>(bytes, 8);
  if (length > bytes.size() - start)
    refuse(fmt::format("header length {} goes past the end of the file ({} bytes)", length,
                       bytes.size()));
  bytes = bytes.subspan(start + length);
  return text.substr(start, length);
}

template <typename T>
void convert(std::span<const std::byte> bytes, Matrix<std::int32_t>& values) {
  if (bytes.size() / sizeof(T) != static_cast<std::size_t>(values.size()) ||
      bytes.size() % sizeof(T) != 0)
    refuse(fmt::format("{} elements of {} bytes are declared, {} bytes of data follow",
                       values.size(), sizeof(T), bytes.size()));
  for (Index i = 0; i < values.size(); ++i) {
    const T value = load<T>(bytes, static_cast<std::size_t>(i) * sizeof(T));
    if (!std::in_range<std::int32_t>(value))
      refuse(fmt::format("value {} at row {}, column {} does not fit in 32 bits", value,
                         i / values.cols(), i % values.cols()));
    values.data()[i] = static_cast<std::int32_t>(value);
  }
}

using Convert = void (*)(std::span<const std::byte>, Matrix<std::int32_t>&);

Convert converter_for(const std::string& dtype) {
  constexpr std::pair<std::string_view, Convert> kConverters[] = {
      {"|i1", convert<std::int8_t>},   {"<i2", convert<std::int16_t>},
      {"<i4", convert<std::int32_t>},  {"<i8", convert<std::int64_t>},
      {"|u1", convert<std::uint8_t>},  {"<u2", convert<std::uint16_t>},
      {"<u4", convert<std::uint32_t>},
  };
  for (const auto& [name, function] : kConverters)
    if (name == dtype) return function;
  refuse(fmt::format("dtype {} is not supported; save it as numpy.int32", quote_name(dtype)));
}

// Rows and columns, refused before anything is allocated if the data cannot hold them.
std::pair<Index, Index> matrix_shape(const Header& header, std::size_t data_bytes) {
  if (header.fortran_order) refuse("is in Fortran order; save numpy.ascontiguousarray(...)");
  if (header.shape.size() != 1 && header.shape.size() != 2)
    refuse(fmt::format("has {} dimensions, 1 or 2 are needed", header.shape.size()));
  const Index rows = header.shape.size() == 2 ? header.shape[0] : 1;
  const Index cols = header.shape.back();
  Index count = 0;
  if (__builtin_mul_overflow(rows, cols, &count) || std::cmp_greater(count, data_bytes))
    refuse(fmt::format("a shape of {} x {} is declared, {} bytes of data follow", rows, cols,
                       data_bytes));
  return {rows, cols};
}

}  // namespace

Matrix<std::int32_t> read_npy_integers(const std::filesystem::path& path) {
  const MappedFile file(path);
  return with_context(path.string(), [&] {
    std::span<const std::byte> data = file.bytes();
    const Header header = HeaderReader(take_header(data)).read();
    const Convert convert_all = converter_for(header.dtype);
    const auto [rows, cols] = matrix_shape(header, data.size());
    auto values = Matrix<std::int32_t>::uninitialized(rows, cols);
    convert_all(data, values);
    return values;
  });
}

}  // namespace calque::io
