#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "calque/io/file.h"
#include "support/temp_folder.h"
#include "verify/verify_parts.h"

namespace calque::verify {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

// SHA-256 of "abc" and of nothing: FIPS 180-4, appendix B.1, and NIST's example values.
constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

std::vector<Finding> check(const fs::path& folder) {
  Findings findings;
  check_checksums(folder, findings);
  return findings.take();
}

TEST(Checksums, ListEveryFileInByteOrder) {
  const TempFolder folder;
  fs::create_directories(folder / "sub");
  io::write_file(folder / "b", "abc");
  io::write_file(folder / "Z", "");
  io::write_file(folder / "sub/a", "abc");
  write_checksums(folder.path());
  const std::string expected = std::string(kEmpty) + "  Z\n" + kAbc + "  b\n" + kAbc + "  sub/a\n";
  EXPECT_EQ(io::read_file(folder / "SHA256SUMS"), expected);
  write_checksums(folder.path());  // does not list itself
  EXPECT_EQ(io::read_file(folder / "SHA256SUMS"), expected);
}

TEST(Checksums, SatisfyTheTool) {
  const TempFolder folder;
  io::write_file(folder / "two\nlines\\", "abc");
  io::write_file(folder / "plain name", "abc");
  write_checksums(folder.path());
  const std::string command =
      "cd '" + folder.path().string() + "' && sha256sum --check --strict --quiet SHA256SUMS";
  EXPECT_EQ(std::system(command.c_str()), 0);
  const std::vector<Finding> findings = check(folder.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].verdict, Finding::Verdict::kOk);
  EXPECT_EQ(findings[0].message, "2 files match SHA256SUMS");
}

TEST(Checksums, ReportMissingFilesAndLinesThatAreNone) {
  const TempFolder folder;
  io::write_file(folder / "SHA256SUMS", std::string(kAbc) + "  gone\nnonsense\n");
  const std::vector<Finding> findings = check(folder.path());
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_THAT(findings[0].message, HasSubstr("'gone' is missing"));
  EXPECT_THAT(findings[1].message, HasSubstr("SHA256SUMS, line 2"));
}

TEST(Checksums, NeverLookOutsideTheFolder) {
  const TempFolder folder;
  fs::create_directories(folder / "artifact");
  io::write_file(folder / "secret", "abc");
  io::write_file(folder / "artifact/SHA256SUMS",
                 std::string(kAbc) + "  ../secret\n" + kAbc + "  /etc/hostname\n");
  const std::vector<Finding> findings = check(folder / "artifact");
  ASSERT_EQ(findings.size(), 2u);
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.verdict, Finding::Verdict::kFault);
    EXPECT_THAT(finding.message, HasSubstr("outside the folder"));
  }
}

TEST(Checksums, WarnWhereThereAreNone) {
  const TempFolder folder;
  const std::vector<Finding> findings = check(folder.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].verdict, Finding::Verdict::kWarning);
}

}  // namespace
}  // namespace calque::verify
