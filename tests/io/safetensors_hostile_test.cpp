#include "calque/io/safetensors.h"
#include "io/safetensors_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::StartsWith;

class HostileSafetensors : public ::testing::Test {
 protected:
  void expect_refused(const std::string& bytes, const std::string& reason) {
    const auto path = folder_ / "model.safetensors";
    put(path, bytes);
    const Error error = error_of([&] { SafetensorsFile file(path); });
    EXPECT_THAT(error, IsError(ErrorKind::kInput, reason));
    EXPECT_THAT(error.what(), StartsWith(path.string() + ": "));
  }
  void expect_header_refused(const std::string& header, const std::string& reason) {
    expect_refused(safetensors(header), reason);
  }
  TempFolder folder_;
};

TEST_F(HostileSafetensors, TooShortForALength) {
  expect_refused("", "0 bytes are too few");
  expect_refused("1234567", "7 bytes are too few");
}

TEST_F(HostileSafetensors, HeaderLengthPastTheEndOfTheFile) {
  expect_refused(raw(std::uint64_t{3}) + "{}", "header length 3 goes past the end");
  expect_refused(raw(std::uint64_t{99'999'999}) + "{}", "header length 99999999 goes past");
}

TEST_F(HostileSafetensors, HeaderAbove100Megabytes) {
  expect_refused(raw(std::uint64_t{100'000'001}) + "{}", "header length 100000001 is above");
  expect_refused(std::string(8, '\xff') + "{}", "header length 18446744073709551615 is above");
}

TEST_F(HostileSafetensors, GitLfsPointer) {
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
                 "git-lfs pointer");
}

TEST_F(HostileSafetensors, InvalidJson) {
  expect_header_refused("", "not valid JSON");
  expect_header_refused("{", "not valid JSON");
  expect_header_refused("{} x", "not valid JSON");
  expect_header_refused("{\"\xff\": 1}", "not valid JSON");
  expect_header_refused("{'a': 1}", "not valid JSON (byte 2)");
}

TEST_F(HostileSafetensors, HeaderThatIsNoObject) {
  expect_header_refused("[]", "the header is a list, not an object");
  expect_header_refused("7", "the header is the number 7");
  expect_header_refused("null", "the header is null");
}

TEST_F(HostileSafetensors, DeepNesting) {
  expect_header_refused(R"({"a":)" + std::string(3'000'000, '['),
                        "tensor 'a': its entry is a list");
  expect_header_refused(R"({"a":{"dtype":{)", "tensor 'a': 'dtype' cannot be an object");
  expect_header_refused(R"({"a":{"shape":[[)", "tensor 'a': 'shape' cannot be a list");
}

// The format's own library takes this for a file without metadata.
TEST_F(HostileSafetensors, MetadataMayBeNull) {
  const auto path = folder_ / "null.safetensors";
  std::ofstream(path, std::ios::binary) << safetensors(
      R"({"__metadata__":null,"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})");
  EXPECT_EQ(SafetensorsFile(path).tensors().size(), 1u);
}

TEST_F(HostileSafetensors, NameListedTwice) {
  const std::string tensor = entry("a", "F32", "[0]", "[0,0]");
  expect_header_refused(object_of({tensor, tensor}), "tensor 'a' is listed twice");
  expect_header_refused(R"({"__metadata__":{},"__metadata__":{}})", "is listed twice");
}

TEST_F(HostileSafetensors, FieldGivenTwice) {
  expect_header_refused(R"({"a":{"dtype":"F32","dtype":"F16"}})", "'dtype' cannot be a second");
  expect_header_refused(R"({"__metadata__":{"k":"1","k":"2"}})", "'k' cannot be a second value");
}

TEST_F(HostileSafetensors, IncompleteEntry) {
  const std::string reason = "must hold \"dtype\", \"shape\" and two \"data_offsets\"";
  expect_header_refused(R"({"a":{}})", reason);
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[]}})", reason);
  expect_header_refused(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", reason);
  expect_header_refused(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", reason);
  expect_header_refused(object_of({entry("a", "F32", "[1]", "[4]")}), reason);
  expect_header_refused(object_of({entry("a", "F32", "[1]", "[0,4,8]")}), reason);
}

// A field of one tensor must not stand in for one that the next lacks.
TEST_F(HostileSafetensors, FieldOfTheTensorBefore) {
  expect_header_refused(
      object_of({entry("a", "F32", "[0]", "[0,0]"), R"("b":{"dtype":"F32","shape":[0]})"}),
      "tensor 'b': its entry must hold");
}

TEST_F(HostileSafetensors, ValuesOfTheWrongKind) {
  expect_header_refused(R"({"a":5})", "tensor 'a': its entry is the number 5");
  expect_header_refused(R"({"a":{"dtype":7}})", "'dtype' cannot be the number 7");
  expect_header_refused(R"({"a":{"shape":"x"}})", "'shape' cannot be the text 'x'");
  expect_header_refused(R"({"a":{"shape":[1.5]}})", "'shape' cannot be the number '1.5'");
  expect_header_refused(R"({"a":{"shape":[true]}})", "'shape' cannot be a truth value");
  expect_header_refused(R"({"a":{"strange":1}})", "'strange' cannot be the number 1");
  expect_header_refused(R"({"__metadata__":{"k":3}})", "'k' cannot be the number 3");
  expect_header_refused(R"({"__metadata__":{"k":null}})", "'k' cannot be null");
  expect_header_refused(R"({"__metadata__":{"k":{}}})", "'k' cannot be an object");
}

TEST_F(HostileSafetensors, UnknownDtype) {
  expect_header_refused(object_of({entry("a", "F8_E5M2", "[1]", "[0,1]")}),
                        "tensor 'a': dtype 'F8_E5M2' is not supported");
  expect_header_refused(object_of({entry("a", "f32", "[1]", "[0,4]")}), "dtype 'f32' is not");
}

TEST_F(HostileSafetensors, NegativeDimension) {
  expect_header_refused(object_of({entry("a", "F32", "[-1]", "[0,4]")}),
                        "tensor 'a': 'shape' cannot be the negative number -1");
}

TEST_F(HostileSafetensors, DimensionBeyond63Bits) {
  expect_header_refused(object_of({entry("a", "U8", "[9223372036854775808]", "[0,0]")}),
                        "a dimension of 9223372036854775808 is out of range");
  expect_header_refused(object_of({entry("a", "U8", "[99999999999999999999]", "[0,0]")}),
                        "'shape' cannot be the number '99999999999999999999'");
}

TEST_F(HostileSafetensors, ShapeWhoseProductOverflows) {
  // 2^32 * 2^32 = 2^64 wraps to 0, and so does 4 * 2^62 bytes.
  expect_header_refused(object_of({entry("a", "U8", "[4294967296,4294967296]", "[0,0]")}),
                        "its shape needs more than 2^63 bytes");
  expect_header_refused(object_of({entry("a", "F32", "[4611686018427387904]", "[0,0]")}),
                        "its shape needs more than 2^63 bytes");
  expect_header_refused(object_of({entry("a", "U8", "[0,4294967296,4294967296]", "[0,0]")}),
                        "its shape needs more than 2^63 bytes");
}

TEST_F(HostileSafetensors, ReversedOffsets) {
  expect_refused(safetensors(object_of({entry("a", "F32", "[1]", "[4,0]")}), "1234"),
                 "tensor 'a' (F32 [1]): its data_offsets [4, 0] are reversed");
}

TEST_F(HostileSafetensors, OffsetsOfAnotherSizeThanTheShape) {
  expect_refused(
      safetensors(object_of({entry("a", "BF16", "[3,5]", "[0,28]")}), std::string(28, 0)),
      "tensor 'a' (BF16 [3, 5]) needs 30 bytes, its data_offsets [0, 28] hold 28");
  expect_refused(safetensors(object_of({entry("a", "F32", "[0]", "[0,4]")}), "1234"),
                 "needs 0 bytes");
}

TEST_F(HostileSafetensors, OffsetsPastTheEnd) {
  // The usual result of a broken download.
  expect_refused(safetensors(object_of({entry("a", "F32", "[3]", "[0,12]")}), "12345678"),
                 "tensor 'a' (F32 [3]) needs 12 bytes, but the file has 8 left; is the download");
  expect_refused(safetensors(object_of(
                     {entry("a", "U8", "[1]", "[18446744073709551614,18446744073709551615]")})),
                 "needs 1 bytes, but the file has 0 left");
}

TEST_F(HostileSafetensors, OverlappingTensors) {
  expect_refused(
      safetensors(object_of({entry("a", "F32", "[1]", "[0,4]"), entry("b", "F32", "[1]", "[2,6]")}),
                  "123456"),
      "tensor 'b' (F32 [1]): its data starts at 2, inside the tensor before it");
}

TEST_F(HostileSafetensors, TensorsThatShareAllTheirBytes) {
  expect_refused(
      safetensors(object_of({entry("a", "F32", "[1]", "[0,4]"), entry("b", "F32", "[1]", "[0,4]")}),
                  "1234"),
      "inside the tensor before it, which ends at 4");
}

TEST_F(HostileSafetensors, Holes) {
  expect_refused(safetensors(object_of({entry("a", "F32", "[1]", "[0,4]"),
                                        entry("b", "F32", "[1]", "[8,12]")}),
                             "123456789012"),
                 "tensor 'b' (F32 [1]): its data starts at 8, after a hole of 4 bytes");
  expect_refused(safetensors(object_of({entry("a", "F32", "[1]", "[1,5]")}), "12345"),
                 "after a hole of 1 bytes");
}

TEST_F(HostileSafetensors, BytesAfterTheLastTensor) {
  expect_refused(safetensors(object_of({entry("a", "F32", "[1]", "[0,4]")}), "12345"),
                 "1 bytes follow the last tensor");
  expect_refused(safetensors("{}", "12"), "2 bytes follow the last tensor");
}

}  // namespace
}  // namespace calque::io
