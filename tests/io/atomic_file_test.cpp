#include <utility>

#include "calque/io/file.h"
#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(AtomicFile, AppearsAtCommitOnly) {
  const TempFolder folder;
  AtomicFile file(folder / "a");
  file.append("hello");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  file.commit();
  EXPECT_EQ(content_of(folder / "a"), "hello");
  EXPECT_THAT(names_in(folder.path()), ElementsAre("a"));
}

TEST(AtomicFile, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  { AtomicFile(folder / "a").append("hello"); }
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(AtomicFile, LeavesTheOldFileAloneWithoutCommit) {
  const TempFolder folder;
  put(folder / "a", "old");
  { AtomicFile(folder / "a").append("new"); }
  EXPECT_EQ(content_of(folder / "a"), "old");
}

TEST(AtomicFile, ReplacesTheOldFileAtCommit) {
  const TempFolder folder;
  put(folder / "a", "old and longer");
  write_file(folder / "a", "new");
  EXPECT_EQ(content_of(folder / "a"), "new");
}

TEST(AtomicFile, TakesBytesInAnyOrder) {
  const TempFolder folder;
  AtomicFile file(folder / "a");
  file.write_at(3, bytes_of("de"));
  file.write_at(0, bytes_of("abc"));
  EXPECT_EQ(file.size(), 5u);
  file.append("f");
  file.commit();
  EXPECT_EQ(content_of(folder / "a"), "abcdef");
}

TEST(AtomicFile, GivesBackWhatItReservedAndDidNotWrite) {
  const TempFolder folder;
  AtomicFile file(folder / "a");
  file.reserve(10'000);
  EXPECT_EQ(file.size(), 0u);
  file.append("abc");
  file.commit();
  EXPECT_EQ(content_of(folder / "a"), "abc");
}

TEST(AtomicFile, CreatesMissingParentFolders) {
  const TempFolder folder;
  write_file(folder / "x/y/a", "deep");
  EXPECT_EQ(content_of(folder / "x/y/a"), "deep");
}

TEST(AtomicFile, DoesNotFollowAStaleLinkInPlaceOfItsPartialFile) {
  const TempFolder folder;
  put(folder / "victim", "precious");
  std::filesystem::create_symlink(folder / "victim", folder / "a.partial");
  write_file(folder / "a", "new");
  EXPECT_EQ(content_of(folder / "victim"), "precious");
}

TEST(AtomicFile, CommitsOnceAfterAMove) {
  const TempFolder folder;
  AtomicFile first(folder / "a");
  first.append("moved");
  AtomicFile second(std::move(first));
  second.commit();
  EXPECT_EQ(content_of(folder / "a"), "moved");
}

TEST(AtomicFile, ReportsAFullDiskWithBytesWantedAndFree) {
  const TempFolder folder;
  Error error = error_of([&] {
    const FileSizeLimit limit(1'000);
    AtomicFile file(folder / "a");
    file.append(std::string(5'000, 'x'));
  });
  EXPECT_THAT(error, IsError(ErrorKind::kResource, "a.partial: cannot write: File too large"));
  // 1000 bytes fit, the other 4000 are wanted.
  EXPECT_THAT(error.what(), HasSubstr("4000 bytes wanted, "));
  EXPECT_THAT(error.what(), HasSubstr(" bytes free"));
  EXPECT_EQ(error.code(), "E302");
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(AtomicFile, ReportsAFullDiskWhenReserving) {
  const TempFolder folder;
  const Error error = error_of([&] {
    const FileSizeLimit limit(1'000);
    AtomicFile(folder / "a").reserve(5'000);
  });
  EXPECT_THAT(error, IsError(ErrorKind::kResource, "cannot reserve space"));
  EXPECT_THAT(error.what(), HasSubstr("5000 bytes wanted"));
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(AtomicFile, ReportsAParentThatIsNoFolder) {
  const TempFolder folder;
  put(folder / "file", "");
  EXPECT_THAT(error_of([&] { AtomicFile(folder / "file/a"); }),
              IsError(ErrorKind::kResource, "cannot create the f"));
}

TEST(AtomicFile, CannotTakeTheNameOfAFolder) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "a/inside");
  EXPECT_THAT(error_of([&] { write_file(folder / "a", "text"); }),
              IsError(ErrorKind::kResource, "cannot rename the finished file"));
  EXPECT_THAT(names_in(folder.path()), ::testing::UnorderedElementsAre("a", "a/inside"));
}

TEST(CopyFile, CopiesEveryByte) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 100'003; ++i) text += static_cast<char>(i * 7);
  put(folder / "from", text);
  io::copy_file(folder / "from", folder / "deep/to");
  EXPECT_EQ(content_of(folder / "deep/to"), text);
}

TEST(CopyFile, CopiesAnEmptyFile) {
  const TempFolder folder;
  put(folder / "from", "");
  io::copy_file(folder / "from", folder / "to");
  EXPECT_TRUE(std::filesystem::exists(folder / "to"));
}

TEST(CopyFile, LeavesNothingBehindOnAFullDisk) {
  const TempFolder folder;
  put(folder / "from", std::string(5'000, 'x'));
  const Error error = error_of([&] {
    const FileSizeLimit limit(1'000);
    io::copy_file(folder / "from", folder / "to");
  });
  EXPECT_EQ(error.kind(), ErrorKind::kResource);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("from"));
}

}  // namespace
}  // namespace calque::io
