#include <zlib.h>

#include <limits>

#include "calque/io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

GgufValue scalar(GgufValue::Scalar value) { return value; }
GgufValue array(GgufValue::Array value) { return value; }

// A file that ggml's own reader accepts; the tensor w.weight is a block that ggml quantized.
constexpr std::string_view kMinimalFile =
    "474755460300000002000000000000000400000000000000140000000000000067656e6572616c2e61726368697465"
    "63"
    "747572650800000005000000000000006c6c616d61110000000000000067656e6572616c2e616c69676e6d656e7404"
    "00"
    "0000200000000300000000000000612e6207000000010500000000000000612e617272090000000800000002000000"
    "00"
    "0000000100000000000000780200000000000000797a0800000000000000772e776569676874020000002000000000"
    "00"
    "0000010000000000000002000000000000000000000008000000000000006e2e776569676874010000000300000000"
    "00"
    "00000000000020000000000000000000bc2fe456b89b31161d5920ba94674acef43f00000000000000000000000000"
    "00"
    "0000803f00000040000000bf0000000000000000000000000000000000000000";

TEST(GgufWriter, WritesTheMinimalFileByteForByte) {
  const TempFolder folder;
  const GgufMetadata metadata{
      {"general.architecture", scalar(std::string("llama"))},
      {"general.alignment", scalar(std::uint32_t{32})},
      {"a.b", scalar(true)},
      {"a.arr", array(std::vector<std::string>{"x", "yz"})},
  };
  GgufWriter writer(
      folder / "a.gguf", metadata,
      {{"w.weight", ggml::Type::kQ4_0, {32, 1}}, {"n.weight", ggml::Type::kF32, {3}}});
  writer.write("n.weight", bytes_of(raw(1.0f) + raw(2.0f) + raw(-0.5f)));
  writer.write("w.weight", bytes_of(from_hex("bc2fe456b89b31161d5920ba94674acef43f")));
  EXPECT_EQ(writer.file_bytes(), 320u);
  writer.finish();
  const std::string bytes = content_of(folder / "a.gguf");
  EXPECT_EQ(bytes, from_hex(kMinimalFile));
  EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), 320), 0xd4c26099u);
}

TEST(GgufWriter, ReaderTakesTheMinimalFile) {
  const TempFolder folder;
  put(folder / "a.gguf", from_hex(kMinimalFile));
  const GgufFile file(folder / "a.gguf");
  EXPECT_EQ(file.boolean("a.b"), true);
  EXPECT_THAT(file.find_tensor("w.weight")->ne, ElementsAre(32, 1));
  EXPECT_EQ(text_of(file.find_tensor("n.weight")->bytes), raw(1.0f) + raw(2.0f) + raw(-0.5f));
}

template <typename T>
void expect_round_trip(std::vector<T> values) {
  const TempFolder folder;
  const GgufMetadata metadata{
      {"one", scalar(values[0])}, {"many", array(values)}, {"none", array(std::vector<T>{})}};
  GgufWriter(folder / "a.gguf", metadata, {}).finish();
  const GgufFile file(folder / "a.gguf");
  ASSERT_EQ(file.metadata().size(), 3u);
  EXPECT_EQ(std::get<T>(std::get<GgufValue::Scalar>(file.find("one")->value)), values[0]);
  const auto many = std::get<GgufValue::Array>(file.find("many")->value);
  EXPECT_EQ(std::get<std::vector<T>>(many), values);
  const auto none = std::get<GgufValue::Array>(file.find("none")->value);
  EXPECT_TRUE(std::get<std::vector<T>>(none).empty());
}

template <typename T>
void expect_limits_round_trip() {
  using Limits = std::numeric_limits<T>;
  expect_round_trip<T>({Limits::lowest(), Limits::max(), T{0}, T{1}, T{77}});
}

TEST(GgufWriter, KeepsScalarsAndArraysOfEveryType) {
  expect_limits_round_trip<std::uint8_t>();
  expect_limits_round_trip<std::int8_t>();
  expect_limits_round_trip<std::uint16_t>();
  expect_limits_round_trip<std::int16_t>();
  expect_limits_round_trip<std::uint32_t>();
  expect_limits_round_trip<std::int32_t>();
  expect_limits_round_trip<std::uint64_t>();
  expect_limits_round_trip<std::int64_t>();
  expect_limits_round_trip<float>();
  expect_limits_round_trip<double>();
  expect_round_trip<bool>({true, false, true});
  expect_round_trip<std::string>({"", "a", std::string("b\0c", 3), std::string(5'000, 'd')});
}

// The ids of the written types: a width or a sign lost would still read back as a number.
TEST(GgufWriter, StoresTheTypeIdsOfTheFormat) {
  const TempFolder folder;
  const GgufMetadata metadata{{"a", scalar(std::uint16_t{7})},
                              {"b", scalar(std::uint64_t{7})},
                              {"c", scalar(7.0)},
                              {"d", array(std::vector<std::int64_t>{7})}};
  GgufWriter(folder / "a.gguf", metadata, {}).finish();
  EXPECT_EQ(content_of(folder / "a.gguf"),
            gguf({gguf_key("a", 2, raw(std::uint16_t{7})), gguf_key("b", 10, u64(7)),
                  gguf_key("c", 12, raw(7.0)), gguf_key("d", 9, u32(11) + u64(1) + u64(7))},
                 {}));
}

TEST(GgufWriter, PadsEveryTensorWithZeros) {
  const TempFolder folder;
  GgufWriter writer(folder / "a.gguf", {},
                    {{"t", ggml::Type::kI8, {33}}, {"u", ggml::Type::kI8, {64}}});
  writer.write("u", bytes_of(std::string(64, 'u')));
  writer.write("t", bytes_of(std::string(33, 't')));
  writer.finish();
  const std::string data = std::string(33, 't') + std::string(31, '\0') + std::string(64, 'u');
  EXPECT_THAT(content_of(folder / "a.gguf"), ::testing::EndsWith(data));
}

TEST(GgufWriter, LeavesNothingBehindWithoutFinish) {
  const TempFolder folder;
  {
    GgufWriter writer(folder / "a.gguf", {}, {{"t", ggml::Type::kI8, {4}}});
    writer.write("t", bytes_of("1234"));
  }
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(GgufWriter, ReportsAFullDiskBeforeTheWork) {
  const TempFolder folder;
  const Error error = error_of([&] {
    const FileSizeLimit limit(1'000);
    GgufWriter writer(folder / "a.gguf", {}, {{"t", ggml::Type::kI8, {5'000}}});
  });
  EXPECT_THAT(error, IsError(ErrorKind::kResource, "a.gguf.partial: cannot reserve space"));
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

class WriterMistakes : public ::testing::Test {
 protected:
  void expect_refused(const GgufMetadata& metadata, std::vector<GgufTensorDeclaration> tensors,
                      const std::string& reason) {
    EXPECT_THAT(error_of([&] { GgufWriter(folder_ / "a.gguf", metadata, tensors); }),
                IsError(ErrorKind::kInternal, reason));
    EXPECT_THAT(names_in(folder_.path()), IsEmpty());
  }
  TempFolder folder_;
};

TEST_F(WriterMistakes, InNames) {
  expect_refused({}, {{std::string(64, 'n'), ggml::Type::kF32, {1}}}, "has 64 bytes");
  expect_refused({}, {{"t", ggml::Type::kF32, {1}}, {"t", ggml::Type::kF32, {1}}},
                 "declared twice");
  expect_refused({{"k", scalar(true)}, {"k", scalar(false)}}, {}, "key 'k' is set twice");
  expect_refused({{"", scalar(true)}}, {}, "a GGUF key has no name");
}

TEST_F(WriterMistakes, InShapes) {
  expect_refused({}, {{"t", ggml::Type::kF32, {1, 1, 1, 1, 1}}}, "has 5 dimensions");
  expect_refused({}, {{"t", ggml::Type::kF32, {}}}, "has 0 dimensions");
  expect_refused({}, {{"t", ggml::Type::kQ4_0, {48, 32}}}, "rows are not whole blocks of 32");
}

TEST_F(WriterMistakes, InTheAlignment) {
  expect_refused({{"general.alignment", scalar(std::uint32_t{64})}}, {}, "must be the u32 32");
  expect_refused({{"general.alignment", scalar(std::uint64_t{32})}}, {}, "must be the u32 32");
}

TEST_F(WriterMistakes, InTheBytes) {
  GgufWriter writer(folder_ / "a.gguf", {},
                    {{"t", ggml::Type::kI8, {4}}, {"u", ggml::Type::kI8, {4}}});
  EXPECT_THAT(error_of([&] { writer.write("x", bytes_of("1234")); }),
              IsError(ErrorKind::kInternal, "'x' was never declared"));
  EXPECT_THAT(error_of([&] { writer.write("t", bytes_of("123")); }),
              IsError(ErrorKind::kInternal, "declared with 4 bytes, 3 come"));
  writer.write("t", bytes_of("1234"));
  EXPECT_THAT(error_of([&] { writer.write("t", bytes_of("1234")); }),
              IsError(ErrorKind::kInternal, "'t' is written twice"));
  EXPECT_THAT(error_of([&] { writer.finish(); }),
              IsError(ErrorKind::kInternal, "'u' was declared and never written"));
}

TEST_F(WriterMistakes, InParts) {
  GgufWriter writer(folder_ / "a.gguf", {}, {{"t", ggml::Type::kI8, {4}}});
  EXPECT_THAT(error_of([&] { writer.write_part("t", 3, bytes_of("12")); }),
              IsError(ErrorKind::kInternal, "declared with 4 bytes, 2 come at 3"));
  EXPECT_THAT(error_of([&] { writer.write_part("t", ~std::uint64_t{0}, bytes_of("12")); }),
              IsError(ErrorKind::kInternal, "declared with 4 bytes, 2 come at"));
  writer.write_part("t", 0, bytes_of("123"));
  EXPECT_THAT(error_of([&] { writer.finish(); }),
              IsError(ErrorKind::kInternal, "'t' was declared and only in part written"));
  EXPECT_THAT(error_of([&] { writer.write_part("t", 0, bytes_of("12")); }),
              IsError(ErrorKind::kInternal, "'t' is written twice"));
}

TEST(GgufWriter, TakesPartsOfATensorInAnyOrder) {
  const TempFolder folder;
  GgufWriter writer(folder / "a.gguf", {}, {{"t", ggml::Type::kI8, {2, 3}}});
  writer.write_part("t", 4, bytes_of("ef"));
  writer.write_part("t", 0, bytes_of("ab"));
  writer.write_part("t", 2, bytes_of("cd"));
  writer.finish();
  const GgufFile file(folder / "a.gguf");
  const auto stored = file.find_tensor("t")->bytes;
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(stored.data()), stored.size()), "abcdef");
}

// Two rows of two blocks each, the scale of block 1 of row 1 is infinite.
TEST(GgufWriter, RefusesScalesThatAreNotFinite) {
  const TempFolder folder;
  GgufWriter writer(
      folder / "a.gguf", {{"general.architecture", scalar(std::string("llama"))}},
      {{"w.weight", ggml::Type::kQ4_0, {64, 2}}, {"n.weight", ggml::Type::kF32, {2}}});
  std::string blocks(4 * 18, '\x11');
  blocks[3 * 18] = '\x00';
  blocks[3 * 18 + 1] = '\x7c';
  const auto message = [](const auto& write) -> std::string {
    try {
      write();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "E402");
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([&] { writer.write("w.weight", bytes_of(blocks)); }),
            "tensor 'w.weight', stored as Q4_0: block 1 of row 1 has scale inf, which nothing can "
            "compute with");
  EXPECT_THAT(message([&] { writer.write_part("w.weight", 36, bytes_of(blocks.substr(36))); }),
              ::testing::HasSubstr("block 1 of row 1"));
  EXPECT_THAT(message([&] {
                writer.write("n.weight",
                             bytes_of(raw(1.0f) + raw(std::numeric_limits<float>::infinity())));
              }),
              ::testing::HasSubstr("row 0, column 1 holds inf"));
}

}  // namespace
}  // namespace calque::io
