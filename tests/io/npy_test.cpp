#include "calque/io/npy.h"

#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;

const std::string kFixtures = CALQUE_FIXTURES "/npy/";

std::vector<std::int32_t> values_of(const Matrix<std::int32_t>& m) {
  return {m.data(), m.data() + m.size()};
}

// Expected values: what numpy was given (README of the fixtures).
TEST(Npy, ReadsEveryVersionAndTheWidthsThatFit) {
  for (const std::string name : {"int32_2x3", "int64_2x3", "version2_2x3", "version3_2x3"}) {
    const auto m = read_npy_integers(kFixtures + name + ".npy");
    EXPECT_EQ(m.rows(), 2) << name;
    EXPECT_EQ(m.cols(), 3) << name;
    EXPECT_THAT(values_of(m), ElementsAre(0, -1, 7, 2147483647, -2147483647 - 1, 100)) << name;
  }
}

TEST(Npy, ReadsNarrowTypesWithTheirSign) {
  const auto read = [](const std::string& name) {
    return values_of(read_npy_integers(kFixtures + name + ".npy"));
  };
  EXPECT_THAT(read("int8_3"), ElementsAre(127, -128, 5));
  EXPECT_THAT(read("uint8_2x2"), ElementsAre(0, 255, 1, 128));
  EXPECT_THAT(read("int16_4"), ElementsAre(1, -2, 32767, -32768));
  EXPECT_THAT(read("uint16_3"), ElementsAre(0, 65535, 300));
  EXPECT_THAT(read("uint32_2"), ElementsAre(0, 2147483647));
}

TEST(Npy, GivesOneRowForRankOne) {
  const auto m = read_npy_integers(kFixtures + "int16_4.npy");
  EXPECT_EQ(m.rows(), 1);
  EXPECT_EQ(m.cols(), 4);
}

TEST(Npy, ReadsAnEmptyMatrix) {
  const auto m = read_npy_integers(kFixtures + "empty_0x4.npy");
  EXPECT_EQ(m.rows(), 0);
  EXPECT_EQ(m.cols(), 4);
}

void expect_refused(const std::string& path, const std::string& reason) {
  const Error error = error_of([&] { read_npy_integers(path); });
  EXPECT_THAT(error, IsError(ErrorKind::kInput, reason));
  EXPECT_THAT(error.what(), ::testing::StartsWith(path));
}

TEST(Npy, RefusesValuesThatDoNotFit) {
  expect_refused(kFixtures + "uint32_too_large.npy", "value 2147483648 at row 1, column 1");
  expect_refused(kFixtures + "int64_too_small.npy", "value -2147483649 at row 0, column 0");
}

TEST(Npy, RefusesOtherKindsOfArrays) {
  expect_refused(kFixtures + "float32_2.npy", "dtype '<f4' is not supported");
  expect_refused(kFixtures + "big_endian_2.npy", "dtype '>i4' is not supported");
  expect_refused(kFixtures + "fortran_2x3.npy", "Fortran order");
  expect_refused(kFixtures + "rank3_1x1x2.npy", "has 3 dimensions");
  expect_refused(kFixtures + "structured_1.npy", "structured types");
}

class HostileNpy : public ::testing::Test {
 protected:
  static std::string file(const std::string& header, const std::string& data) {
    return "\x93NUMPY" + std::string("\1\0", 2) + raw(static_cast<std::uint16_t>(header.size())) +
           header + data;
  }
  void expect_refused_bytes(const std::string& bytes, const std::string& reason) {
    put(folder_ / "a.npy", bytes);
    expect_refused((folder_ / "a.npy").string(), reason);
  }
  TempFolder folder_;
};

TEST_F(HostileNpy, WithoutItsMagic) {
  expect_refused_bytes("", "not a .npy file");
  expect_refused_bytes("NUMPY-like text that is long enough", "not a .npy file");
}

TEST_F(HostileNpy, OfAnUnknownVersion) {
  expect_refused_bytes("\x93NUMPY" + std::string("\4\0\4\0\0\0", 6), "version 4 is not supported");
}

TEST_F(HostileNpy, WithAHeaderPastTheEnd) {
  expect_refused_bytes("\x93NUMPY" + std::string("\1\0\xff\xff{}", 6), "header length 65535");
  expect_refused_bytes("\x93NUMPY" + std::string("\2\0\xff\xff", 4), "ends inside the header");
  expect_refused_bytes("\x93NUMPY" + std::string("\2\0\xff\xff\xff\xff", 6),
                       "header length 4294967295");
}

TEST_F(HostileNpy, WithAHeaderThatIsNoDictionary) {
  expect_refused_bytes(file("", ""), "expected {");
  expect_refused_bytes(file("{'descr': '<i4", ""), "text without an end");
  expect_refused_bytes(file("{'descr': '<i4'", ""), "expected }");
  expect_refused_bytes(file("{'descr': '<i4'}", ""), "must hold");
  expect_refused_bytes(file("{'descr': '<i4', 'descr': '<i4'}", ""), "unexpected key 'descr'");
  expect_refused_bytes(file("{'shape': (x)}", ""), "no dimension at");
  expect_refused_bytes(file("{'shape': (-1,)}", ""), "no dimension at");
  expect_refused_bytes(file("{'shape': (99999999999999999999,)}", ""), "no dimension at");
}

TEST_F(HostileNpy, WithMoreElementsThanData) {
  const auto header = [](const std::string& shape) {
    return "{'descr': '<i4', 'fortran_order': False, 'shape': " + shape + "}";
  };
  expect_refused_bytes(file(header("(9223372036854775807, 3)"), "abcd"), "4 bytes of data follow");
  expect_refused_bytes(file(header("(2,)"), "abcd"), "2 elements of 4 bytes are declared, 4 bytes");
  expect_refused_bytes(file(header("(1,)"), "abcdefgh"), "8 bytes of data follow");
  expect_refused_bytes(file(header("(1,)"), "abcde"), "5 bytes of data follow");
}

}  // namespace
}  // namespace calque::io
