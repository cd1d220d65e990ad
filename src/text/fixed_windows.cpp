#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/safetensors.h"
#include "calque/io/sha256.h"
#include "calque/text/corpus.h"
#include "text/documents.h"
#include "text/token_stream.h"

namespace calque::text {
namespace {

[[noreturn]] void refuse_tokens(const std::filesystem::path& path, const std::string& reason,
                                const char* code = "E214") {
  throw Error(ErrorKind::kInput, code, fmt::format("{}: {}", path.string(), reason));
}

void check_at_least(const std::filesystem::path& path, const char* name, std::int64_t value,
                    std::int64_t least) {
  if (value >= least) return;
  throw Error(ErrorKind::kConfig, "E106",
              fmt::format("{}: {} is {}, not at least {}", path.string(), name, value, least));
}

// One text for the whole file. Documents of a .jsonl are joined by an empty line, as is usual for
// WikiText; conversations end as their template ends them.
std::string whole_text(const TextSource& source, const std::filesystem::path& model,
                       SourceReport& report) {
  std::string text;
  for_each_document(source, model, [&](const Document& document) {
    if (report.documents++ > 0 && !document.rendered) text += "\n\n";
    text += document.text;
    report.invalid_utf8 += document.repaired ? 1 : 0;
  });
  return text;
}

SourceReport report_of(const std::filesystem::path& path) {
  SourceReport report;
  report.path = path.filename().string();
  report.sha256 = io::sha256_hex_of_file(path);
  return report;
}

PackedTokens finish(TokenBlocks blocks, SourceReport report, std::string tokenizer) {
  PackedTokens packed;
  report.rows_used = blocks.rows();
  packed.blocks = std::move(blocks);
  packed.manifest.sources.push_back(std::move(report));
  packed.manifest.tokenizer = std::move(tokenizer);
  describe_tokens(packed.blocks, packed.manifest);
  return packed;
}

bool is_integer(DType dtype) { return dtype >= DType::kI64 && dtype <= DType::kU8; }

constexpr const char* kMask = "attention_mask";

const io::TensorRef& token_tensor(const io::SafetensorsFile& file) {
  if (const io::TensorRef* named = file.find("input_ids")) {
    if (!is_integer(named->dtype))
      refuse_tokens(file.path(),
                    fmt::format("tensor 'input_ids' is {}, not integers", name_of(named->dtype)));
    return *named;
  }
  const io::TensorRef* only = nullptr;
  for (const io::TensorRef& tensor : file.tensors()) {
    if (!is_integer(tensor.dtype) || tensor.name == kMask) continue;
    if (only != nullptr)
      refuse_tokens(file.path(),
                    fmt::format("has several integer tensors ('{}', '{}') and none named "
                                "'input_ids'; rename the one with the token ids",
                                only->name, tensor.name));
    only = &tensor;
  }
  if (only == nullptr) refuse_tokens(file.path(), "has no integer tensor; token ids are expected");
  return *only;
}

template <typename T>
std::int64_t load(const std::byte* bytes, Index index) {
  T value;
  std::memcpy(&value, bytes + index * static_cast<Index>(sizeof(T)), sizeof(T));
  return static_cast<std::int64_t>(value);
}

std::int64_t element(const io::TensorRef& tensor, Index index) {
  switch (tensor.dtype) {
    case DType::kI64:
      return load<std::int64_t>(tensor.bytes.data(), index);
    case DType::kI32:
      return load<std::int32_t>(tensor.bytes.data(), index);
    case DType::kI16:
      return load<std::int16_t>(tensor.bytes.data(), index);
    case DType::kI8:
      return load<std::int8_t>(tensor.bytes.data(), index);
    default:
      return load<std::uint8_t>(tensor.bytes.data(), index);
  }
}

// The tokens of a file: rows of one width, of which a mask may leave a part.
struct GivenIds {
  Matrix<std::int32_t> ids_RW;
  bool masked = false;
  // For each row the tokens that are no padding; all of them without a mask.
  std::vector<std::span<const std::int32_t>> rows;
  std::int64_t tokens = 0;
};

// The run of ones in a row of the mask. Padding is on one side or both.
std::pair<Index, Index> run_of_ones(const std::filesystem::path& path, const io::TensorRef& mask,
                                    Index row, Index width) {
  Index begin = 0, end = 0, ones = 0;
  for (Index s = 0; s < width; ++s) {
    const std::int64_t value = element(mask, row * width + s);
    if (value != 0 && value != 1)
      refuse_tokens(path, fmt::format("tensor '{}' holds {} in row {}; it must hold 0 and 1", kMask,
                                      value, row));
    if (value == 0) continue;
    if (ones++ == 0) begin = s;
    end = s + 1;
  }
  if (ones != end - begin)
    refuse_tokens(path,
                  fmt::format("tensor '{}' leaves out tokens inside row {}; it may only leave out "
                              "padding at the ends of a row",
                              kMask, row));
  return {begin, end};
}

void set_rows(const std::filesystem::path& path, const io::SafetensorsFile& file,
              const io::TensorRef& ids, GivenIds& given) {
  const io::TensorRef* mask = file.find(kMask);
  given.masked = mask != nullptr;
  if (mask != nullptr && (is_floating(mask->dtype) || mask->shape != ids.shape))
    refuse_tokens(
        path,
        fmt::format("tensor '{}' is {} {}; integers or booleans in the shape of '{}', {}, "
                    "are expected",
                    kMask, name_of(mask->dtype), mask->shape_text(), ids.name, ids.shape_text()));
  const Index width = given.ids_RW.cols();
  for (Index row = 0; row < given.ids_RW.rows(); ++row) {
    const auto [begin, end] =
        given.masked ? run_of_ones(path, *mask, row, width) : std::pair<Index, Index>{0, width};
    given.rows.emplace_back(given.ids_RW.row(row) + begin, static_cast<std::size_t>(end - begin));
    given.tokens += end - begin;
  }
}

GivenIds read_tensor_ids(const std::filesystem::path& path, std::int64_t vocab_size) {
  const io::SafetensorsFile file(path);
  if (file.find("position_ids") != nullptr)
    refuse_tokens(
        path,
        "has a tensor 'position_ids', which is not used: every row is one text from position 0. "
        "Write one text a row, without it");
  const io::TensorRef& tensor = token_tensor(file);
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    refuse_tokens(path, fmt::format("tensor '{}' has shape {}; rank 1 or 2 is expected",
                                    tensor.name, tensor.shape_text()));
  const Index rows = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
  auto ids = Matrix<std::int32_t>::uninitialized(rows, tensor.shape.back());
  for (Index i = 0; i < ids.size(); ++i) {
    const std::int64_t id = element(tensor, i);
    if (id < 0 || id >= vocab_size)
      refuse_tokens(path,
                    fmt::format("tensor '{}' holds id {} at position {}, outside the vocabulary "
                                "[0, {})",
                                tensor.name, id, i, vocab_size));
    ids.data()[i] = static_cast<std::int32_t>(id);
  }
  GivenIds given;
  given.ids_RW = std::move(ids);
  set_rows(path, file, tensor, given);
  return given;
}

GivenIds read_ids(const std::filesystem::path& path, std::int64_t vocab_size) {
  if (path.extension() == ".safetensors") return read_tensor_ids(path, vocab_size);
  refuse_tokens(path,
                "token ids are read from .safetensors files. In Python: "
                "safetensors.numpy.save_file({\"input_ids\": ids}, \"tokens.safetensors\")");
}

bool begins_with(std::span<const std::int32_t> ids, const TokenIds& prefix) {
  return ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
}

// Windows of one length, in the order of the tokens.
class Windows {
 public:
  Windows(Index seqlen, const TokenIds& prefix) : seqlen_(as_size(seqlen)), prefix_(prefix) {}

  // No window spans two calls. With `keeps_rest`, what does not fill a window is a shorter one.
  void cut(std::span<const std::int32_t> ids, bool keeps_rest = false) {
    if (begins_with(ids, prefix_)) ids = ids.subspan(prefix_.size());
    while (const std::size_t taken = take(ids)) ids = ids.subspan(std::min(taken, ids.size()));
    if (keeps_rest && !ids.empty()) take_rest(ids);
  }

  Index count() const { return static_cast<Index>(next_.size()); }

  // The first `rows` of them.
  TokenBlocks blocks(Index rows) const {
    TokenBlocks blocks;
    blocks.ids_BS = Matrix<std::int32_t>::uninitialized(rows, static_cast<Index>(seqlen_));
    std::copy_n(ids_.data(), blocks.ids_BS.size(), blocks.ids_BS.data());
    blocks.lengths_B.assign(lengths_.begin(), lengths_.begin() + rows);
    if (!prefix_.empty()) blocks.next_B.assign(next_.begin(), next_.begin() + rows);
    return blocks;
  }

 private:
  static std::size_t as_size(Index index) { return static_cast<std::size_t>(index); }

  // The window that `rest` begins with. Returns how many of its tokens are used up, 0 if it is too
  // short.
  std::size_t take(std::span<const std::int32_t> rest) {
    const bool has_prefix = begins_with(rest, prefix_);
    const std::size_t put = has_prefix ? 0 : prefix_.size();
    const std::size_t read = seqlen_ - put;
    if (rest.size() < read) return 0;
    if (!has_prefix) ids_.insert(ids_.end(), prefix_.begin(), prefix_.end());
    ids_.insert(ids_.end(), rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(read));
    next_.push_back(put == 0 || rest.size() == read ? -1 : rest[read]);
    lengths_.push_back(static_cast<Index>(seqlen_));
    return put == 0 ? read : read + 1;
  }

  // Fewer tokens than a window holds, with the prefix in front; the window ends in zeros.
  void take_rest(std::span<const std::int32_t> rest) {
    const std::size_t begin = ids_.size();
    if (!begins_with(rest, prefix_)) ids_.insert(ids_.end(), prefix_.begin(), prefix_.end());
    ids_.insert(ids_.end(), rest.begin(), rest.end());
    lengths_.push_back(static_cast<Index>(ids_.size() - begin));
    ids_.resize(begin + seqlen_, 0);
    next_.push_back(-1);
  }

  std::size_t seqlen_;
  const TokenIds& prefix_;
  std::vector<std::int32_t> ids_;
  std::vector<std::int32_t> next_;
  std::vector<Index> lengths_;
};

}  // namespace

PackedTokens consecutive_windows(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                 std::int64_t seqlen, std::int64_t windows, const TokenIds& prefix,
                                 const std::filesystem::path& model, const ChatSettings& chat) {
  check_at_least(path, "seqlen", seqlen, 1 + static_cast<Index>(prefix.size()));
  check_at_least(path, "windows", windows, 0);
  SourceReport report = report_of(path);
  const TokenIds ids =
      tokenizer.encode(whole_text({.path = path, .chat = chat}, model, report), true);
  report.tokens = static_cast<std::int64_t>(ids.size());
  Windows cut(seqlen, prefix);
  cut.cut(ids);
  report.rows_available = cut.count();
  if (report.rows_available == 0)
    refuse_tokens(
        path,
        fmt::format("gives {} tokens, not one window of {}; use a longer text or a smaller "
                    "seqlen",
                    with_commas(report.tokens), with_commas(seqlen)),
        "E201");
  const Index rows =
      windows == 0 ? report.rows_available : std::min<Index>(windows, report.rows_available);
  return finish(cut.blocks(rows), std::move(report), tokenizer.description());
}

namespace {

// The windows of a file of tokens, and how many of them are wanted.
struct GivenWindows {
  TokenBlocks blocks;
  std::int64_t rows = 0;    // in the file
  std::int64_t tokens = 0;  // without padding
  std::int64_t available = 0;
};

GivenWindows windows_of(const std::filesystem::path& path, std::int64_t seqlen,
                        std::int64_t n_samples, std::int64_t vocab_size, const TokenIds& prefix,
                        std::string_view count_key = "n_samples") {
  check_at_least(path, "seqlen", seqlen, 0);
  check_at_least(path, "n_samples", n_samples, 0);
  const GivenIds given = read_ids(path, vocab_size);
  if (given.tokens == 0) refuse_tokens(path, "holds no token ids");
  const Index width = given.ids_RW.cols();
  if (seqlen == 0) seqlen = width;
  check_at_least(path, "seqlen", seqlen, 1 + static_cast<Index>(prefix.size()));
  Windows cut(seqlen, prefix);
  for (const std::span<const std::int32_t> row : given.rows) cut.cut(row, given.masked);
  if (cut.count() == 0)
    refuse_tokens(path,
                  fmt::format("its rows have {} tokens, fewer than seqlen {}; set seqlen: {}",
                              with_commas(width), with_commas(seqlen), width),
                  "E201");
  if (n_samples > cut.count())
    refuse_tokens(
        path,
        fmt::format("gives {} rows of {} tokens, not {}; set {}: {}", with_commas(cut.count()),
                    with_commas(seqlen), with_commas(n_samples), count_key, cut.count()),
        "E201");
  return {cut.blocks(n_samples == 0 ? cut.count() : n_samples), given.ids_RW.rows(), given.tokens,
          cut.count()};
}

}  // namespace

PackedTokens load_tokens(const std::filesystem::path& path, std::int64_t seqlen,
                         std::int64_t n_samples, std::int64_t vocab_size, const TokenIds& prefix) {
  GivenWindows windows = windows_of(path, seqlen, n_samples, vocab_size, prefix);
  SourceReport report = report_of(path);
  report.documents = windows.rows;
  report.tokens = windows.tokens;
  report.rows_available = windows.available;
  return finish(std::move(windows.blocks), std::move(report), "none: the ids were given");
}

void check_tokens(const std::filesystem::path& path, std::int64_t seqlen, std::int64_t n_samples,
                  std::int64_t vocab_size, const TokenIds& prefix, std::string_view count_key) {
  windows_of(path, seqlen, n_samples, vocab_size, prefix, count_key);
}

}  // namespace calque::text
