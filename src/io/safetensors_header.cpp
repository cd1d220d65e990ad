#include "io/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "io/refuse.h"

namespace calque::io {
namespace {

DType dtype_named(std::string_view name, const std::string& tensor) {
  for (int i = 0; i <= static_cast<int>(DType::kU32); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (name_of(dtype) == name) return dtype;
  }
  refuse(
      fmt::format("tensor {}: dtype {} is not supported (F64, F32, F16, BF16, I64, I32, I16, "
                  "I8, U8 and BOOL are)",
                  quote_name(tensor), quote_name(name)));
}

// Reads the header event by event. A tree of the whole header would merge names given twice, and
// would build whatever nesting a hostile header holds; here anything but
//   {"__metadata__": {text: text}, name: {"dtype": text, "shape": [n], "data_offsets": [n, n]}}
// is refused at the first event that differs.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsHeader take() { return std::move(header_); }

  // The format's own library writes and reads metadata that is null: there is none.
  bool null() override {
    if (place_ == Place::kTop && name_ == "__metadata__") return true;
    unexpected("null");
  }
  bool boolean(bool) override { unexpected("a truth value"); }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(fmt::format("the number {}", quote_name(text)));
  }
  bool number_integer(number_integer_t value) override {
    unexpected(fmt::format("the negative number {}", value));
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kNumbers) unexpected(fmt::format("the number {}", value));
    numbers_->push_back(value);
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata)
      header_.metadata[field_] = text;
    else if (place_ == Place::kTensor && field_ == "dtype")
      dtype_ = text;
    else
      unexpected(fmt::format("the text {}", quote_name(text)));
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = name_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
      fields_.clear();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& text) override {
    if (place_ == Place::kTop) {
      if (!names_.insert(text).second)
        refuse(fmt::format("tensor {} is listed twice", quote_name(text)));
      name_ = text;
      return true;
    }
    field_ = text;
    if (!fields_.insert(text).second) unexpected("a second value");
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) finish_tensor();
    place_ = place_ == Place::kTop ? Place::kOutside : Place::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || (field_ != "shape" && field_ != "data_offsets"))
      unexpected("a list");
    place_ = Place::kNumbers;
    numbers_ = field_ == "shape" ? &shape_ : &offsets_;
    numbers_->clear();
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    refuse(fmt::format("the header is not valid JSON (byte {}): {}", position, error.what()));
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kTensor, kNumbers };

  [[noreturn]] void unexpected(const std::string& what) const {
    if (place_ == Place::kOutside) refuse(fmt::format("the header is {}, not an object", what));
    if (place_ == Place::kTop)
      refuse(fmt::format("tensor {}: its entry is {}, not an object", quote_name(name_), what));
    refuse(fmt::format("{} {}: {} cannot be {}",
                       place_ == Place::kMetadata ? "header entry" : "tensor", quote_name(name_),
                       quote_name(field_), what));
  }

  void finish_tensor() {
    // Unknown and repeated fields were already refused, so three fields are the right ones.
    if (fields_.size() != 3 || offsets_.size() != 2)
      refuse(
          fmt::format("tensor {}: its entry must hold \"dtype\", \"shape\" and two "
                      "\"data_offsets\", and nothing else",
                      quote_name(name_)));
    SafetensorsEntry entry{name_, dtype_named(dtype_, name_), {}, 0, 0};
    for (const std::uint64_t size : shape_) entry.shape.push_back(checked_size(size));
    entry.begin = offsets_[0];
    entry.end = offsets_[1];
    header_.entries.push_back(std::move(entry));
  }

  Index checked_size(std::uint64_t size) const {
    if (size > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()))
      refuse(fmt::format("tensor {}: a dimension of {} is out of range", quote_name(name_), size));
    return static_cast<Index>(size);
  }

  SafetensorsHeader header_;
  Place place_ = Place::kOutside;
  std::string name_, field_;
  std::set<std::string> names_, fields_;
  std::string dtype_;
  std::vector<std::uint64_t> shape_, offsets_;
  std::vector<std::uint64_t>* numbers_ = nullptr;
};

void check_size(const SafetensorsEntry& entry) {
  if (entry.end < entry.begin)
    refuse(fmt::format("{}: its data_offsets [{}, {}] are reversed", entry.described(), entry.begin,
                       entry.end));
  const std::uint64_t needed = checked_byte_count(entry);
  if (entry.end - entry.begin != needed)
    refuse(fmt::format("{} needs {} bytes, its data_offsets [{}, {}] hold {}", entry.described(),
                       needed, entry.begin, entry.end, entry.end - entry.begin));
}

void check_bounds(const SafetensorsEntry& entry, std::uint64_t data_bytes) {
  if (entry.end <= data_bytes) return;
  const std::uint64_t left = data_bytes - std::min(entry.begin, data_bytes);
  refuse(fmt::format("{} needs {} bytes, but the file has {} left; is the download complete?",
                     entry.described(), entry.end - entry.begin, left));
}

// The format requires that tensors cover the data exactly
// (https://github.com/huggingface/safetensors, "Format"): no holes and, as a consequence, no
// overlaps.
void check_cover(const std::vector<SafetensorsEntry>& entries, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin < covered)
      refuse(fmt::format("{}: its data starts at {}, inside the tensor before it, which ends at {}",
                         entry.described(), entry.begin, covered));
    if (entry.begin > covered)
      refuse(fmt::format("{}: its data starts at {}, after a hole of {} bytes", entry.described(),
                         entry.begin, entry.begin - covered));
    covered = entry.end;
  }
  if (covered != data_bytes)
    refuse(fmt::format("{} bytes follow the last tensor", data_bytes - covered));
}

}  // namespace

std::string text_of(const std::vector<Index>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string SafetensorsEntry::described() const {
  return fmt::format("tensor {} ({} {})", quote_name(name), name_of(dtype), text_of(shape));
}

std::uint64_t checked_byte_count(const SafetensorsEntry& entry) {
  // Zeros are skipped, so that no partial product of the shape can overflow in later arithmetic.
  Index bytes = static_cast<Index>(size_of(entry.dtype));
  for (const Index size : entry.shape)
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes))
      refuse(fmt::format("{}: its shape needs more than 2^63 bytes", entry.described()));
  const bool empty = std::find(entry.shape.begin(), entry.shape.end(), 0) != entry.shape.end();
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  HeaderReader reader;
  nlohmann::json::sax_parse(json, &reader);
  SafetensorsHeader header = reader.take();
  for (const SafetensorsEntry& entry : header.entries) check_size(entry);
  for (const SafetensorsEntry& entry : header.entries) check_bounds(entry, data_bytes);
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  check_cover(header.entries, data_bytes);
  return header;
}

}  // namespace calque::io
