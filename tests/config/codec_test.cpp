#include "config/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace calque::config {
namespace {

using ::testing::HasSubstr;
using Kind = YamlNode::Kind;

YamlNode plain(const std::string& text) {
  YamlNode node;
  node.kind = Kind::kScalar;
  node.text = text;
  return node;
}

YamlNode quoted(const std::string& text) {
  YamlNode node = plain(text);
  node.quoted = true;
  return node;
}

template <typename V>
Problem refused(const Codec<V>& codec, const YamlNode& node) {
  V value{};
  const Problem problem = codec.parse(node, "/jobs", value);
  EXPECT_FALSE(problem.empty()) << node.text;
  EXPECT_EQ(value, V{}) << "a refused value was stored";
  return problem;
}

template <typename V>
V read(const Codec<V>& codec, const YamlNode& node) {
  V value{};
  const Problem problem = codec.parse(node, "/jobs", value);
  EXPECT_TRUE(problem.empty()) << node.text << ": " << problem.message;
  return value;
}

TEST(BooleanCodec, TakesOnlyTrueAndFalse) {
  EXPECT_TRUE(read(boolean(), plain("true")));
  EXPECT_FALSE(read(boolean(), plain("false")));
  for (const char* text : {"yes", "no", "on", "off", "True", "1", "0", ""})
    EXPECT_EQ(refused(boolean(), plain(text)).code, "E105");
  refused(boolean(), quoted("true"));
}

TEST(IntegerCodec, TakesDigitsAndNothingElse) {
  EXPECT_EQ(read(integer(1), plain("17")), 17);
  EXPECT_EQ(read(integer(-5), plain("-5")), -5);
  for (const char* text : {"4.0", "4x", "0x10", "1_000", "1e3", "", "-", "+4", " 4"})
    EXPECT_EQ(refused(integer(1), plain(text)).code, "E105") << text;
  EXPECT_EQ(refused(integer(1), quoted("4")).code, "E105");
}

TEST(IntegerCodec, HoldsItsRange) {
  EXPECT_EQ(read(small_integer(2, 8), plain("2")), 2);
  EXPECT_EQ(read(small_integer(2, 8), plain("8")), 8);
  EXPECT_THAT(refused(small_integer(2, 8), plain("9")).message, HasSubstr("must be 2 to 8, not 9"));
  EXPECT_EQ(refused(small_integer(2, 8), plain("1")).code, "E106");
  EXPECT_THAT(refused(integer(1), plain("0")).message, HasSubstr("must be 1 or more, not 0"));
  // 2^64: does not fit any of the types
  EXPECT_EQ(refused(integer(1), plain("18446744073709551616")).code, "E106");
  EXPECT_EQ(read(seed(), plain("18446744073709551615")), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(refused(seed(), plain("-1")).code, "E106");
}

TEST(GroupSizeCodec, TakesMinusOneButNotZero) {
  EXPECT_EQ(read(group_size(), plain("-1")), -1);
  EXPECT_EQ(read(group_size(), plain("32")), 32);
  EXPECT_EQ(refused(group_size(), plain("-2")).code, "E106");
  std::int64_t kept = 7;
  EXPECT_FALSE(group_size().parse(plain("0"), "", kept).empty());
  EXPECT_EQ(kept, 7);
}

TEST(CountOrAutoCodec, ReadsAutoAsZero) {
  int threads = 5;
  EXPECT_TRUE(count_or_auto().parse(plain("auto"), "", threads).empty());
  EXPECT_EQ(threads, 0);
  EXPECT_EQ(count_or_auto().show(0), "auto");
  EXPECT_EQ(read(count_or_auto(), plain("3")), 3);
  refused(count_or_auto(), plain("0"));
}

TEST(NumberCodec, TakesDecimalsInRange) {
  EXPECT_EQ(read(number(0, 1), plain("0.05")), 0.05);
  EXPECT_EQ(read(number(0, 1), plain("1e-3")), 0.001);
  EXPECT_EQ(read(number(0, 1), plain("1")), 1.0);
  EXPECT_EQ(refused(number(0, 1), plain("1.5")).code, "E106");
  EXPECT_EQ(refused(number(0, 1), plain("nan")).code, "E106");
  EXPECT_EQ(refused(number(0, 1), plain("inf")).code, "E106");
  EXPECT_EQ(refused(number(0, 1), plain("1%")).code, "E105");
}

TEST(ByteSizeCodec, KnowsDecimalAndBinaryUnits) {
  EXPECT_EQ(read(byte_size(), plain("5GB")), 5'000'000'000u);
  EXPECT_EQ(read(byte_size(), plain("500MB")), 500'000'000u);
  EXPECT_EQ(read(byte_size(), plain("4GiB")), 4'294'967'296u);
  EXPECT_EQ(read(byte_size(), plain("2 MiB")), 2'097'152u);
  EXPECT_EQ(read(byte_size(), plain("123")), 123u);
  for (const char* text :
       {"5G", "5gb", "GB", "-5GB", "-5.5GB", "5.5", "99999999999999999999", "20000000000GB"})
    EXPECT_EQ(refused(byte_size(), plain(text)).code, "E105") << text;
  EXPECT_EQ(refused(byte_size(), plain("0GB")).code, "E106");
}

TEST(ByteSizeCodec, ShowsWhatItReads) {
  for (const std::uint64_t bytes : {1ull, 999ull, 5'000'000'000ull, 4'294'967'296ull, 1'048'577ull})
    EXPECT_EQ(read(byte_size(), plain(byte_size().show(bytes))), bytes);
}

TEST(ByteLimitCodec, IsASizeOrZeroForNone) {
  EXPECT_EQ(read(byte_limit(), plain("6GiB")), 6'442'450'944u);
  EXPECT_EQ(read(byte_limit(), plain("512MiB")), 536'870'912u);
  EXPECT_EQ(read(byte_limit(), plain("1.5GiB")), 1'610'612'736u);
  // 3.2 * 2^30 = 3435973836.8: whole bytes, not more than was said.
  EXPECT_EQ(read(byte_limit(), plain("3.2GiB")), 3'435'973'836u);
  EXPECT_EQ(read(byte_size(), plain("0.5 MB")), 500'000u);
  EXPECT_EQ(read(byte_limit(), plain("0")), 0u);
  EXPECT_EQ(byte_limit().show(0), "0");
  for (const char* text : {"6G", "lots", "-1", "1.5", ".5GiB", "1.GiB", "1.2.3GiB", "1e3MiB"})
    EXPECT_EQ(refused(byte_limit(), plain(text)).code, "E105") << text;
}

TEST(PathCodec, IsRelativeToTheJobsFolder) {
  EXPECT_EQ(read(path(), plain("out/a")), "/jobs/out/a");
  EXPECT_EQ(read(path(), plain("../out/a/")), "/out/a");
  EXPECT_EQ(read(path(), plain("/data/x")), "/data/x");
  EXPECT_EQ(refused(path(), quoted("")).code, "E106");
  EXPECT_EQ(refused(path(), YamlNode{}).code, "E105");
}

TEST(ChoiceCodec, NamesTheNearest) {
  const auto codec = one_of({"rtn", "gptq"});
  EXPECT_EQ(read(codec, plain("rtn")), "rtn");
  const Problem problem = refused(codec, plain("gptp"));
  EXPECT_EQ(problem.code, "E107");
  EXPECT_EQ(problem.message, "must be one of rtn, gptq, not 'gptp'; did you mean 'gptq'?");
}

TEST(DeviceCodec, TakesAutoCpuAndCudaWithANumber) {
  for (const char* text : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"})
    EXPECT_EQ(read(device(), plain(text)), text);
  for (const char* text : {"cuda:", "cuda:x", "cuda:-1", "gpu", "tensors"})
    EXPECT_EQ(refused(device(), plain(text)).code, "E107");
}

TEST(DeviceCodec, OfAStageMayBeLeftToTheJobs) {
  EXPECT_EQ(read(or_empty(device()), YamlNode{}), "");
  EXPECT_EQ(read(or_empty(device()), plain("cuda:1")), "cuda:1");
  EXPECT_EQ(or_empty(device()).show(""), "null");
  EXPECT_EQ(or_empty(device()).show("cuda:1"), quoted_if_needed("cuda:1"));
  EXPECT_EQ(refused(or_empty(device()), plain("gpu")).code, "E107");
}

TEST(QuotedIfNeeded, ReadsBackAsTheSameText) {
  for (const std::string text :
       {"plain", "with space", "true", "null", "12", "-1", "a: b", "# x", "\n\n\n", "tab\tand\x01",
        "say \"hi\" \\ done", "caf\xc3\xa9", "*star", "&amp", "~", "[x]", "a#b", "/abs/path-1.2"}) {
    Diagnostics diagnostics("test", "", {});
    YamlNode root = parse_yaml("k: " + quoted_if_needed(text) + "\n", 0, diagnostics);
    ASSERT_EQ(root.entries.size(), 1u) << text;
    EXPECT_EQ(root.entries[0].value.kind, Kind::kScalar) << text;
    EXPECT_EQ(root.entries[0].value.text, text);
    EXPECT_NO_THROW(diagnostics.throw_if_any());
  }
}

}  // namespace
}  // namespace calque::config
