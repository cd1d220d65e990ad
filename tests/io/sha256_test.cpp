#include "calque/io/sha256.h"

#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;

// The examples of FIPS 180-2, appendix B, and the digest of no bytes.
constexpr const char* kOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kOfAMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, MatchesThePublishedExamples) {
  EXPECT_EQ(sha256_hex({}), kOfNothing);
  EXPECT_EQ(sha256_hex(bytes_of("abc")), kOfAbc);
  EXPECT_EQ(sha256_hex(bytes_of(std::string(1'000'000, 'a'))), kOfAMillionA);
}

TEST(Sha256, OfAFileIsThatOfItsBytes) {
  const TempFolder folder;
  put(folder / "a", "abc");
  put(folder / "empty", "");
  EXPECT_EQ(sha256_hex_of_file(folder / "a"), kOfAbc);
  EXPECT_EQ(sha256_hex_of_file(folder / "empty"), kOfNothing);
}

TEST(Sha256, OfAFileOfSeveralPartsIsThatOfItsBytes) {
  const TempFolder folder;
  const std::string text((std::size_t{16} << 20) + 12'345, 'z');  // parts are 16 MiB
  put(folder / "a", text);
  EXPECT_EQ(sha256_hex_of_file(folder / "a"), sha256_hex(bytes_of(text)));
}

TEST(Sha256, NamesAMissingFile) {
  EXPECT_THAT(error_of([] { sha256_hex_of_file("/nowhere/model"); }),
              IsError(ErrorKind::kInput, "/nowhere/model"));
}

}  // namespace
}  // namespace calque::io
