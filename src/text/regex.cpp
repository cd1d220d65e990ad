#include "calque/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <new>

namespace calque::text {
namespace {

// UCP: without it U+00A0 is not a space and é is not a letter. MULTILINE: Ruby's ^ and $ always
// are.
constexpr std::uint32_t kUnicodeLines = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;

PCRE2_SPTR code_units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

std::uint32_t flags_of(const Regex::Options& options) {
  return PCRE2_NEVER_BACKSLASH_C | (options.unicode_lines ? kUnicodeLines : 0U) |
         (options.anchored ? std::uint32_t{PCRE2_ANCHORED} : 0U);
}

template <typename T>
T* or_bad_alloc(T* made) {
  if (made == nullptr) throw std::bad_alloc();
  return made;
}

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : handle(compiled, &pcre2_code_free) {}
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> handle;
};

struct Regex::Search::Scratch {
  explicit Scratch(const pcre2_code* code)
      : data(or_bad_alloc(pcre2_match_data_create_from_pattern(code, nullptr)),
             &pcre2_match_data_free),
        limits(or_bad_alloc(pcre2_match_context_create(nullptr)), &pcre2_match_context_free) {}
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits;
};

Regex::Regex(std::string_view pattern, const Options& options) : options_(options) {
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      or_bad_alloc(pcre2_compile_context_create(nullptr)), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled = pcre2_compile(code_units(pattern), pattern.size(), flags_of(options),
                                       &code, &offset, context.get());
  if (compiled == nullptr) throw RegexError(error_text(code), offset);
  code_ = std::make_shared<const Code>(compiled);
  // Compiled machine code does not count steps like the interpreter.
  if (options.match_limit == 0) pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

Regex::Search::Search(const Regex& regex, std::string_view text)
    : regex_(regex), text_(text), scratch_(std::make_unique<Scratch>(regex.code_->handle.get())) {
  if (regex.options_.match_limit > 0)
    pcre2_set_match_limit(scratch_->limits.get(), regex.options_.match_limit);
}

Regex::Search::~Search() = default;

int Regex::Search::match(std::size_t start, std::uint32_t options) {
  return pcre2_match(regex_.code_->handle.get(), code_units(text_), text_.size(), start,
                     options | (regex_.options_.unicode_lines ? PCRE2_NO_UTF_CHECK : 0U),
                     scratch_->data.get(), scratch_->limits.get());
}

int Regex::Search::match_or_throw(std::size_t start) {
  int result = match(start, 0);
  // The machine code's stack is small; the interpreter's grows on the heap.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(start, PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return 0;
  if (result < 0) throw RegexError(error_text(result), 0);
  return result;
}

std::optional<Span> Regex::Search::from(std::size_t start) {
  if (match_or_throw(start) == 0) return std::nullopt;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch_->data.get());
  return Span{bounds[0], bounds[1]};
}

std::optional<Regex::Search::Match> Regex::Search::match_from(std::size_t start) {
  const int set = match_or_throw(start);
  if (set == 0) return std::nullopt;
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch_->data.get());
  Match result{{bounds[0], bounds[1]}, {bounds[0], bounds[1]}};
  for (int group = 1; group < set; ++group)
    if (bounds[2 * group] != PCRE2_UNSET) {
      result.group = {bounds[2 * group], bounds[2 * group + 1]};
      break;
    }
  return result;
}

}  // namespace calque::text
