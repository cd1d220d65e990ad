#include "formats/module_matcher.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <new>

#include "calque/core/error.h"
#include "calque/core/names.h"

namespace calque::formats {

struct ModuleMatcher::Code {
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> regex{nullptr, &pcre2_code_free};
};

namespace {

constexpr std::string_view kRegexPrefix = "re:";
constexpr std::size_t kMaxPatternBytes = 1 << 14;
// Module names are some fifty characters: far more steps than a pattern without nested repetition
// takes, and a fraction of a second.
constexpr std::uint32_t kMatchLimit = 1'000'000;

PCRE2_SPTR code_units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 160> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

[[noreturn]] void refuse(const std::string& pattern, const std::string& reason) {
  throw Error(ErrorKind::kConfig, "E152", quote_name(pattern) + " " + reason);
}

// A glob as a regular expression for the whole name.
std::string regex_of_glob(std::string_view glob) {
  std::string regex;
  for (const char c : glob) {
    if (c == '*')
      regex += ".*";
    else if (c == '?')
      regex += '.';
    else if (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80))
      regex += c;
    else
      regex += std::string("\\") + c;
  }
  return regex + "\\z";
}

bool is_regex(std::string_view pattern) { return pattern.starts_with(kRegexPrefix); }

std::string literal_characters(std::string_view pattern) {
  if (is_regex(pattern)) pattern.remove_prefix(kRegexPrefix.size());
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const bool any = c == '.' && i + 1 < pattern.size() && pattern[i + 1] == '*';
    if (!any && (std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_')) text += c;
  }
  return text;
}

// Fewest edits between `text` and any part of `name`.
std::size_t distance_to_part(std::string_view text, std::string_view name) {
  std::vector<std::size_t> row(name.size() + 1, 0);
  for (std::size_t i = 1; i <= text.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= name.size(); ++j) {
      const std::size_t replaced = diagonal + (text[i - 1] == name[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return *std::min_element(row.begin(), row.end());
}

}  // namespace

std::shared_ptr<const ModuleMatcher::Code> ModuleMatcher::compiled(const std::string& pattern,
                                                                   const std::string& regex,
                                                                   bool anchored) {
  if (pattern.size() > kMaxPatternBytes)
    refuse(pattern, fmt::format("is {} bytes long; at most {} make sense", pattern.size(),
                                kMaxPatternBytes));
  const std::uint32_t options =
      (anchored ? std::uint32_t{PCRE2_ANCHORED} : 0U) | PCRE2_NEVER_BACKSLASH_C;
  int code = 0;
  PCRE2_SIZE offset = 0;
  auto result = std::make_shared<Code>();
  result->regex.reset(
      pcre2_compile(code_units(regex), regex.size(), options, &code, &offset, nullptr));
  if (!result->regex)
    refuse(pattern, fmt::format("is no regular expression: {} (at offset {}{})", error_text(code),
                                offset, anchored ? " after 're:'" : ""));
  return result;
}

ModuleMatcher::ModuleMatcher(const std::string& pattern)
    : pattern_(pattern),
      code_(compiled(
          pattern, is_regex(pattern) ? pattern.substr(kRegexPrefix.size()) : regex_of_glob(pattern),
          /*anchored=*/true)) {}

ModuleMatcher ModuleMatcher::searching(const std::string& regex) {
  ModuleMatcher matcher;
  matcher.pattern_ = regex;
  matcher.code_ = compiled(regex, regex, /*anchored=*/false);
  return matcher;
}

bool ModuleMatcher::matches(std::string_view module) const {
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code_->regex.get(), nullptr), &pcre2_match_data_free);
  if (!limits || !data) throw std::bad_alloc();
  pcre2_set_match_limit(limits.get(), kMatchLimit);
  const int result = pcre2_match(code_->regex.get(), code_units(module), module.size(), 0, 0,
                                 data.get(), limits.get());
  if (result >= 0) return true;
  if (result == PCRE2_ERROR_NOMATCH) return false;
  refuse(pattern_, fmt::format("cannot be matched against '{}': {}", module, error_text(result)));
}

std::string nearest_module(const std::string& pattern, const std::vector<std::string>& names) {
  const std::string text = literal_characters(pattern);
  const auto nearer = [&](const std::string& a, const std::string& b) {
    return distance_to_part(text, a) < distance_to_part(text, b);
  };
  const auto nearest = std::min_element(names.begin(), names.end(), nearer);
  return nearest == names.end() ? std::string() : *nearest;
}

}  // namespace calque::formats
