#include <set>

#include "calque/io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::StartsWith;

constexpr std::uint64_t kHuge = ~std::uint64_t{0};
constexpr std::uint32_t kU8 = 0, kU32 = 4, kString = 8, kArray = 9;  // value types
constexpr std::uint32_t kF32 = 0, kQ4_0 = 2, kQ4_K = 12;             // tensor types

class HostileGguf : public ::testing::Test {
 protected:
  void expect_refused(const std::string& bytes, const std::string& reason) {
    const auto path = folder_ / "a.gguf";
    put(path, bytes);
    const Error error = error_of([&] { GgufFile file(path); });
    EXPECT_THAT(error, IsError(ErrorKind::kInput, reason));
    EXPECT_THAT(error.what(), StartsWith(path.string() + ": "));
  }
  void expect_key_refused(const std::string& key, const std::string& reason) {
    expect_refused(gguf({key}, {}), reason);
  }
  void expect_tensor_refused(const std::string& tensor, const std::string& reason) {
    expect_refused(gguf({}, {tensor}, 4096), reason);
  }
  TempFolder folder_;
};

TEST_F(HostileGguf, Empty) { expect_refused("", "the file ends inside the header"); }

TEST_F(HostileGguf, WithoutItsMagic) {
  expect_refused("GGML" + gguf_header(0, 0).substr(4), "is not a GGUF file");
}

TEST_F(HostileGguf, OfAnUnknownVersion) {
  for (const std::uint32_t version : {0u, 1u, 4u, 0x1234u})
    expect_refused(gguf_header(0, 0, version),
                   "GGUF version " + std::to_string(version) + " is not supported");
}

TEST_F(HostileGguf, OfTheOtherEndianness) {
  expect_refused(gguf_header(0, 0, 0x03000000), "is a big-endian GGUF file");
}

TEST_F(HostileGguf, CutInsideTheHeader) {
  expect_refused(gguf_header(0, 0).substr(0, 23), "the file ends inside the header");
}

TEST_F(HostileGguf, TensorCountThatCannotFit) {
  for (const std::uint64_t count : {kHuge, std::uint64_t{1} << 63, std::uint64_t{1} << 40})
    expect_refused(gguf_header(count, 0) + std::string(64, '\0'), "tensor list: a count of");
}

TEST_F(HostileGguf, KeyCountThatCannotFit) {
  for (const std::uint64_t count : {kHuge, std::uint64_t{1} << 63, std::uint64_t{1} << 40})
    expect_refused(gguf_header(0, count) + std::string(64, '\0'), "metadata: a count of");
}

TEST_F(HostileGguf, KeyWithoutAName) {
  expect_key_refused(gguf_key("", kU8, "x"), "key 1 of 1 has no name");
}

TEST_F(HostileGguf, KeyGivenTwice) {
  const std::string key = gguf_key("a.b", kU8, "x");
  expect_refused(gguf({key, key}, {}), "key 'a.b' is given twice");
}

TEST_F(HostileGguf, KeyLongerThanTheFile) {
  expect_refused(gguf_header(0, 1) + u64(1000) + std::string(50, 'k'),
                 "the file ends inside the name of key 1 of 1: 1000 bytes needed");
  expect_refused(gguf_header(0, 1) + u64(kHuge) + std::string(50, 'k'), "is above the limit");
}

TEST_F(HostileGguf, KeyAboveOneGibibyte) {
  expect_refused(gguf_header(0, 1) + u64((1ull << 30) + 1) + std::string(50, 'k'),
                 "a text of 1073741825 bytes is above the limit of 1073741824");
}

TEST_F(HostileGguf, ValueTypeThatDoesNotExist) {
  expect_key_refused(gguf_key("a", 13, u64(0)), "key 'a': value type 13 does not exist");
  expect_key_refused(gguf_key("a", 0xffffffff, u64(0)), "value type 4294967295 does not exist");
}

TEST_F(HostileGguf, ArrayOfArrays) {
  expect_key_refused(gguf_key("a", kArray, u32(kArray) + u64(1) + u32(kU8) + u64(0)),
                     "key 'a': an array of arrays");
}

TEST_F(HostileGguf, ArrayOfAnUnknownType) {
  expect_key_refused(gguf_key("a", kArray, u32(13) + u64(1) + u64(0)),
                     "key 'a': value type 13 does not exist");
}

TEST_F(HostileGguf, ArrayAboveTheLimit) {
  expect_key_refused(gguf_key("a", kArray, u32(kU8) + u64((1ull << 30) + 1)),
                     "key 'a': an array of 1073741825 is above the limit");
  expect_key_refused(gguf_key("a", kArray, u32(kU8) + u64(kHuge)), "is above the limit");
}

TEST_F(HostileGguf, ArrayLongerThanTheFile) {
  expect_refused(gguf_header(0, 1) + gguf_key("a", kArray, u32(kU32) + u64(3)) + std::string(11, 0),
                 "key 'a': a count of 3 needs at least 4 bytes each, 11 bytes are left");
  expect_refused(gguf_header(0, 1) + gguf_key("a", kArray, u32(kString) + u64(1ull << 30)),
                 "key 'a': a count of 1073741824 needs at least 8 bytes each");
}

TEST_F(HostileGguf, TextInAnArrayLongerThanTheFile) {
  expect_refused(gguf_header(0, 1) + gguf_key("a", kArray, u32(kString) + u64(2)) +
                     gguf_string("x") + u64(9) + "12345678",
                 "the file ends inside key 'a': 9 bytes needed");
}

TEST_F(HostileGguf, TextLongerThanTheFile) {
  expect_refused(gguf_header(0, 1) + gguf_key("a", kString, u64(9)) + "12345678",
                 "the file ends inside key 'a': 9 bytes needed");
}

TEST_F(HostileGguf, CutInsideAValue) {
  expect_refused(gguf_header(0, 1) + gguf_key("a", kU32, "\1\2\3"), "the file ends inside key 'a'");
}

TEST_F(HostileGguf, AlignmentOfAnotherType) {
  expect_key_refused(gguf_key("general.alignment", 10, u64(32)),
                     "'general.alignment' is not a u32");
  expect_key_refused(gguf_key("general.alignment", kArray, u32(kU32) + u64(1) + u32(32)),
                     "'general.alignment' is not a u32");
}

TEST_F(HostileGguf, AlignmentThatIsNoPowerOfTwo) {
  for (const std::uint32_t alignment : {0u, 24u, 33u})
    expect_key_refused(
        gguf_key("general.alignment", kU32, u32(alignment)),
        "'general.alignment' is " + std::to_string(alignment) + ", not a power of two");
}

TEST_F(HostileGguf, TensorNameOf64Bytes) {
  expect_tensor_refused(gguf_tensor(std::string(64, 'n'), {1}, kF32, 0),
                        "a name of 64 bytes, at most 63 are possible");
}

TEST_F(HostileGguf, TensorListedTwice) {
  expect_refused(gguf({}, {gguf_tensor("t", {8}, kF32, 0), gguf_tensor("t", {8}, kF32, 32)}, 64),
                 "tensor 't' (F32 [8]) is listed twice");
}

TEST_F(HostileGguf, NumberOfDimensions) {
  expect_tensor_refused(gguf_tensor("t", {1, 1, 1, 1, 1}, kF32, 0), "'t': 5 dimensions");
  expect_tensor_refused(gguf_tensor("t", {}, kF32, 0), "'t': 0 dimensions");
  expect_refused(gguf_header(1, 0) + gguf_string("t") + u32(0xffffffff) + std::string(64, '\0'),
                 "'t': 4294967295 dimensions");
}

TEST_F(HostileGguf, NegativeDimension) {
  expect_tensor_refused(gguf_tensor("t", {1, kHuge}, kF32, 0),
                        "tensor 't': a dimension of 18446744073709551615 is out of range");
}

TEST_F(HostileGguf, ShapeWhoseProductOverflows) {
  const std::uint64_t half = std::uint64_t{1} << 32;  // half * half wraps to 0
  expect_tensor_refused(gguf_tensor("t", {half, half}, kF32, 0), "needs more than 2^63 bytes");
  expect_tensor_refused(gguf_tensor("t", {0, half, half}, kF32, 0), "needs more than 2^63 bytes");
  expect_tensor_refused(gguf_tensor("t", {half, half / 2, 1, 1}, kQ4_0, 0),
                        "needs more than 2^63 bytes");
}

TEST_F(HostileGguf, ByteSizeThatOverflows) {
  // 2^61 elements fit in 63 bits, their 2^63 bytes do not.
  expect_tensor_refused(gguf_tensor("t", {std::uint64_t{1} << 61}, kF32, 0),
                        "needs more than 2^63 bytes");
}

TEST_F(HostileGguf, PaddedSizeThatWraps) {
  // 2^63 - 4 bytes: padding it to 32 leaves 63 bits; what follows would seem to start at 0.
  const std::uint64_t count = (std::uint64_t{1} << 61) - 1;
  expect_refused(gguf({}, {gguf_tensor("t", {count}, kF32, 0), gguf_tensor("u", {1}, kF32, 0)}, 64),
                 "tensor 't' (F32 [2305843009213693951]) needs 9223372036854775804 bytes");
}

TEST_F(HostileGguf, TensorTypeThatIsUnknownOrRemoved) {
  for (const std::uint32_t type : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, 97u, 0xffffffffu})
    expect_tensor_refused(
        gguf_tensor("t", {256}, type, 0),
        "tensor 't': tensor type " + std::to_string(type) + " is unknown or was removed");
}

// Those that exist: the rest of the file is read.
TEST_F(HostileGguf, TensorTypesThatExistAreNotRefused) {
  for (std::uint32_t type = 0; type <= 42; ++type) {
    const std::set<std::uint32_t> removed = {4, 5, 31, 32, 33, 36, 37, 38};
    if (removed.count(type) > 0) continue;
    put(folder_ / "a.gguf", gguf({}, {gguf_tensor("t", {256}, type, 0)}, 4096));
    const GgufFile file(folder_ / "a.gguf");
    EXPECT_EQ(static_cast<std::uint32_t>(file.tensors().at(0).type), type);
  }
}

TEST_F(HostileGguf, RowsThatAreNotWholeBlocks) {
  expect_tensor_refused(gguf_tensor("t", {33, 32}, kQ4_0, 0),
                        "tensor 't' (Q4_0 [33, 32]): rows of 33 are not whole blocks of 32");
  expect_tensor_refused(gguf_tensor("t", {128, 2}, kQ4_K, 0), "not whole blocks of 256");
}

// Two tensors of 12 bytes each, which 32 bytes hold.
std::string two_tensors(std::uint64_t first, std::uint64_t second,
                        const std::vector<std::string>& keys = {}) {
  return gguf(keys, {gguf_tensor("t", {3}, kF32, first), gguf_tensor("u", {3}, kF32, second)}, 256);
}

TEST_F(HostileGguf, OffsetsWithGaps) {
  expect_refused(two_tensors(32, 64),
                 "tensor 't' (F32 [3]): its offset is 32, but the tensors before it end at 0");
  expect_refused(two_tensors(0, 64),
                 "'u' (F32 [3]): its offset is 64, but the tensors before it end at 32");
  expect_refused(two_tensors(0, kHuge), "its offset is 18446744073709551615");
}

TEST_F(HostileGguf, OffsetsThatOverlap) {
  expect_refused(two_tensors(0, 0), "its offset is 0, but the tensors before it end at 32");
  expect_refused(two_tensors(0, 16), "its offset is 16, but the tensors before it end at 32");
}

TEST_F(HostileGguf, OffsetsWithoutPadding) {
  expect_refused(two_tensors(0, 12), "its offset is 12, but the tensors before it end at 32");
}

TEST_F(HostileGguf, OffsetsInAnotherOrder) {
  expect_refused(two_tensors(32, 0), "its offset is 32, but the tensors before it end at 0");
}

TEST_F(HostileGguf, OffsetsOfAnotherAlignment) {
  const std::string key = gguf_key("general.alignment", kU32, u32(64));
  expect_refused(two_tensors(0, 32, {key}),
                 "its offset is 32, but the tensors before it end at 64");
  expect_refused(two_tensors(0, 64), "its offset is 64, but the tensors before it end at 32");
}

TEST_F(HostileGguf, DataPastTheEndOfTheFile) {
  expect_refused(gguf({}, {gguf_tensor("t", {3}, kF32, 0)}, 11),
                 "tensor 't' (F32 [3]) needs 12 bytes, but the file has 11 left; is the download");
  expect_refused(gguf({}, {gguf_tensor("t", {3}, kF32, 0), gguf_tensor("u", {1}, kF32, 32)}, 32),
                 "tensor 'u' (F32 [1]) needs 4 bytes, but the file has 0 left");
}

TEST_F(HostileGguf, DataThatTheAlignmentMovesPastTheEnd) {
  expect_refused(gguf({gguf_key("general.alignment", kU32, u32(1u << 31))},
                      {gguf_tensor("t", {1}, kF32, 0)}, 64),
                 "tensor 't' (F32 [1]) needs 4 bytes, but the file has 0 left");
}

TEST_F(HostileGguf, CutAnywhere) {
  const std::string whole = gguf({gguf_key("k", kString, gguf_string("text")),
                                  gguf_key("l", kArray, u32(kU32) + u64(2) + u64(0))},
                                 {gguf_tensor("t", {3}, kF32, 0)}, 12);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    put(folder_ / "cut.gguf", whole.substr(0, size));
    EXPECT_EQ(error_of([&] { GgufFile file(folder_ / "cut.gguf"); }).kind(), ErrorKind::kInput);
  }
}

// Names reach the terminal: no control bytes, no gigabytes.
TEST_F(HostileGguf, NameWithControlBytes) {
  expect_key_refused(gguf_key("\x1b[2J", 13, ""), "key '\\x1b[2J': value type 13");
}

}  // namespace
}  // namespace calque::io
