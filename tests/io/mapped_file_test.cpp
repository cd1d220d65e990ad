#include "calque/io/file.h"
#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::HasSubstr;

TEST(MappedFile, ShowsTheBytesOfTheFile) {
  const TempFolder folder;
  put(folder / "a", std::string("x\0y", 3));
  EXPECT_EQ(text_of(MappedFile(folder / "a").bytes()), std::string("x\0y", 3));
}

TEST(MappedFile, MapsAnEmptyFileToNoBytes) {
  const TempFolder folder;
  put(folder / "a", "");
  EXPECT_TRUE(MappedFile(folder / "a").bytes().empty());
}

TEST(MappedFile, NamesTheMissingFileAndTheReason) {
  const TempFolder folder;
  const Error error = error_of([&] { MappedFile file(folder / "gone"); });
  EXPECT_THAT(error, IsError(ErrorKind::kInput, "No such file or directory"));
  EXPECT_THAT(error.what(), HasSubstr((folder / "gone").string()));
}

TEST(MappedFile, RefusesAFolder) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { MappedFile file(folder.path()); }),
              IsError(ErrorKind::kInput, "it is a folder"));
}

TEST(MappedFile, StillShowsItsBytesAfterDroppingAndFetchingPartOfThem) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 30'000; ++i) text += static_cast<char>('a' + i % 23);
  put(folder / "a", text);
  const MappedFile file(folder / "a");
  file.drop(file.bytes().subspan(5'001, 12'003));
  file.drop(file.bytes().last(1));
  file.drop({});
  file.will_need(file.bytes().subspan(4'097, 12'003));
  file.will_need({});
  EXPECT_EQ(text_of(file.bytes()), text);
}

TEST(MappedFile, HandsItsBytesOverWhenMoved) {
  const TempFolder folder;
  put(folder / "a", "first");
  put(folder / "b", "second");
  MappedFile a(folder / "a");
  MappedFile b(folder / "b");
  a = std::move(b);
  const MappedFile c(std::move(a));
  EXPECT_EQ(text_of(c.bytes()), "second");
}

TEST(ReadFile, ReadsFilesThatDoNotKnowTheirSize) {
  // procfs says 0 bytes for files that hold some.
  EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("Pid:"));
}

TEST(ReadFile, ReadsMoreThanOneChunk) {
  const TempFolder folder;
  const std::string text(200'001, 'q');
  put(folder / "a", text);
  EXPECT_EQ(read_file(folder / "a"), text);
}

TEST(ReadFile, NamesTheMissingFileAndTheReason) {
  EXPECT_THAT(error_of([] { read_file("/nowhere/at/all"); }),
              IsError(ErrorKind::kInput, "/nowhere/at/all: cannot read: No such file"));
}

}  // namespace
}  // namespace calque::io
