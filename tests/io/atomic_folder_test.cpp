#include "calque/io/file.h"
#include "io/io_test_support.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

TEST(AtomicFolder, AppearsAtCommitOnly) {
  const TempFolder folder;
  AtomicFolder out(folder / "out", false);
  write_file(out.staging() / "a", "text");
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  out.commit();
  EXPECT_THAT(names_in(folder.path()), UnorderedElementsAre("out", "out/a"));
}

TEST(AtomicFolder, LeavesNothingBehindWithoutCommit) {
  const TempFolder folder;
  {
    const AtomicFolder out(folder / "out", false);
    put(out.staging() / "a", "text");
  }
  EXPECT_THAT(names_in(folder.path()), ::testing::IsEmpty());
}

TEST(AtomicFolder, RefusesAnExistingFolder) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "out");
  EXPECT_THAT(error_of([&] { AtomicFolder(folder / "out", false); }),
              IsError(ErrorKind::kConfig, "the output folder already exists"));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("out"));
}

TEST(AtomicFolder, RefusesAFolderThatAppearedMeanwhile) {
  const TempFolder folder;
  AtomicFolder out(folder / "out", false);
  std::filesystem::create_directory(folder / "out");
  EXPECT_THAT(error_of([&] { out.commit(); }), IsError(ErrorKind::kConfig, "already exists"));
}

TEST(AtomicFolder, RefusesAFileEvenToOverwrite) {
  const TempFolder folder;
  put(folder / "out", "a file");
  EXPECT_THAT(error_of([&] { AtomicFolder(folder / "out", true); }),
              IsError(ErrorKind::kConfig, "exists and is not a folder"));
  EXPECT_EQ(content_of(folder / "out"), "a file");
}

TEST(AtomicFolder, ReplacesTheOldContentWholeWhenOverwriting) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "out");
  put(folder / "out/old", "old");
  AtomicFolder out(folder / "out", true);
  put(out.staging() / "new", "new");
  EXPECT_TRUE(std::filesystem::exists(folder / "out/old"));
  out.commit();
  EXPECT_THAT(names_in(folder.path()), UnorderedElementsAre("out", "out/new"));
}

TEST(AtomicFolder, KeepsTheOldContentWhenOverwritingIsAbandoned) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "out");
  put(folder / "out/old", "old");
  { const AtomicFolder out(folder / "out", true); }
  EXPECT_THAT(names_in(folder.path()), UnorderedElementsAre("out", "out/old"));
}

TEST(AtomicFolder, RemovesTheLeftOversOfAnEarlierRun) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "out.partial");
  put(folder / "out.partial/stale", "stale");
  AtomicFolder out(folder / "out", false);
  out.commit();
  EXPECT_THAT(names_in(folder.path()), ElementsAre("out"));
}

TEST(AtomicFolder, CreatesMissingParentFolders) {
  const TempFolder folder;
  AtomicFolder out(folder / "x/y/out", false);
  out.commit();
  EXPECT_TRUE(std::filesystem::is_directory(folder / "x/y/out"));
}

TEST(AtomicFolder, StagesBesideAPathWithATrailingSlash) {
  const TempFolder folder;
  const AtomicFolder out(folder / "out/", false);
  EXPECT_EQ(out.staging(), folder / "out.partial");
  EXPECT_EQ(out.path(), folder / "out");
}

}  // namespace
}  // namespace calque::io
