#include "text/unicode.h"

#include <gtest/gtest.h>

#include "text/regex_dialect.h"

namespace calque::text {
namespace {

std::string replaced(std::string_view text) {
  bool any = false;
  const std::string clean = replace_invalid_utf8(text, any);
  return clean + (any ? " (replaced)" : "");
}

constexpr const char* kFffd = "\xEF\xBF\xBD";

// Unicode 15, table 3-8: maximal subparts of "61 F1 80 80 E1 80 C2 62 80 63 80 BF 64".
TEST(InvalidUtf8, BecomesOneReplacementForEachMaximalSubpart) {
  const std::string f = kFffd;
  EXPECT_EQ(replaced("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + f + f + f + "b" + f + "c" + f + f + "d (replaced)");
}

// Tables 3-9 to 3-11: overlong forms, surrogates and values beyond U+10FFFF are ill-formed byte by
// byte.
TEST(InvalidUtf8, CountsOverlongFormsAndSurrogates) {
  const std::string f = kFffd;
  EXPECT_EQ(replaced("\xC0\xAF"), f + f + " (replaced)");
  EXPECT_EQ(replaced("\xED\xA0\x80"), f + f + f + " (replaced)");
  EXPECT_EQ(replaced("\xF4\x91\x92\x93"), f + f + f + f + " (replaced)");
}

TEST(InvalidUtf8, LeavesValidTextAlone) {
  const std::string text = "a\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80";
  EXPECT_EQ(replaced(text), text);
}

TEST(CodePoints, SurviveEncodingAndDecoding) {
  for (const char32_t c : {0x41u, 0x7FFu, 0x800u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text = "x";
    append_code_point(text, c);
    std::size_t at = 1;
    EXPECT_EQ(next_code_point(text, at), c);
    EXPECT_EQ(at, text.size());
    EXPECT_EQ(last_code_point(text, text.size()), c);
  }
}

// UnicodeData.txt: U+1E9B and U+0323 (UAX 15, figure 6).
TEST(Normalized, FollowsUax15) {
  const std::string text = "\xE1\xBA\x9B\xCC\xA3";
  EXPECT_EQ(normalized(text, NormalForm::kNfc), text);
  EXPECT_EQ(normalized(text, NormalForm::kNfd), "\xC5\xBF\xCC\xA3\xCC\x87");
  EXPECT_EQ(normalized(text, NormalForm::kNfkc), "\xE1\xB9\xA9");
  EXPECT_EQ(normalized(text, NormalForm::kNfkd), "s\xCC\xA3\xCC\x87");
}

TEST(LowerCase, GivesTwoCharactersForDottedI) {
  EXPECT_EQ(lower_case("AZ\xC4\xB0\xC3\x89"), "azi\xCC\x87\xC3\xA9");
}

// GPT-2's table: a space is U+0120, a line feed U+010A, U+00AD's byte the last of the extras.
TEST(ByteAlphabet, IsGpt2s) {
  EXPECT_EQ(to_byte_alphabet(" \n!\xAD"), "\xC4\xA0\xC4\x8A!\xC5\x83");
}

TEST(ByteAlphabet, GivesEveryByteBack) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  EXPECT_EQ(from_byte_alphabet(to_byte_alphabet(bytes)), bytes);
  EXPECT_EQ(from_byte_alphabet("a b"), std::nullopt);
}

TEST(RegexDialect, TranslatesWhatTheEnginesSpellDifferently) {
  EXPECT_EQ(to_pcre2("\\u00e9[\\u4e00-\\u9fff]"), "\\x{00e9}[\\x{4e00}-\\x{9fff}]");
  EXPECT_EQ(to_pcre2("\\p{L}\\p{Lu}\\P{N}\\p{^L}"), "\\p{L}\\p{Lu}\\P{N}\\p{^L}");
  EXPECT_EQ(to_pcre2("\\p{Han}"), "\\p{sc:Han}");
  EXPECT_EQ(to_pcre2("\\[a\\]&&(?i:b)\\.{1,3}"), "\\[a\\]&&(?i:b)\\.{1,3}");
}

}  // namespace
}  // namespace calque::text
