#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <optional>

#include "calque/core/error.h"
#include "text/regex_dialect.h"
#include "text/unicode.h"

namespace calque::text {

struct Regex::Code {
  using Handle = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;
  Handle handle{nullptr, &pcre2_code_free};
};

namespace {

constexpr std::size_t kMaxPatternBytes = 1 << 16;
// UCP: without it U+00A0 is no space and é no letter. MULTILINE: Ruby's ^ and $ are always so.
constexpr std::uint32_t kOptions =
    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;

PCRE2_SPTR code_units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

[[noreturn]] void refuse(const std::string& reason) {
  throw Error(ErrorKind::kInput, "E211", reason);
}

pcre2_code* compile(std::string_view pattern) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled =
      pcre2_compile(code_units(pattern), pattern.size(), kOptions, &code, &offset, context.get());
  if (compiled == nullptr)
    refuse(fmt::format("cannot be compiled: {} (near '{}')", error_text(code),
                       pattern.substr(offset > 8 ? offset - 8 : 0, 16)));
  // Where there is no just-in-time compiler the interpreter gives the same matches.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
  return compiled;
}

// Searches one text again and again, reusing PCRE2's scratch memory.
class Search {
 public:
  Search(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create_from_pattern(code, nullptr), &pcre2_match_data_free) {
    if (!data_) throw std::bad_alloc();
  }

  std::optional<Span> from(std::size_t start) {
    int result = match(start, PCRE2_NO_UTF_CHECK);
    // The machine code's stack is small; the interpreter's grows on the heap.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
      result = match(start, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0) refuse(fmt::format("cannot be matched: {}", error_text(result)));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data_.get());
    return Span{bounds[0], bounds[1]};
  }

 private:
  int match(std::size_t start, std::uint32_t options) {
    return pcre2_match(code_, code_units(text_), text_.size(), start, options, data_.get(),
                       nullptr);
  }

  const pcre2_code* code_;
  std::string_view text_;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data_;
};

}  // namespace

Regex::Regex(std::string_view pattern) : pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes)
    refuse(
        fmt::format("is {} bytes long; at most {} are accepted", pattern.size(), kMaxPatternBytes));
  auto code = std::make_shared<Code>();
  code->handle.reset(compile(to_pcre2(pattern)));
  code_ = std::move(code);
}

std::vector<Span> Regex::matches(std::string_view text) const {
  std::vector<Span> found;
  Search search(code_->handle.get(), text);
  std::size_t start = 0;
  std::optional<std::size_t> last_end;
  while (start <= text.size()) {
    const auto match = search.from(start);
    if (!match) break;
    if (match->begin == match->end && match->end == last_end) {
      if (start == text.size()) break;
      next_code_point(text, start);
      continue;
    }
    found.push_back(*match);
    start = match->end;
    last_end = start;
  }
  return found;
}

}  // namespace calque::text
