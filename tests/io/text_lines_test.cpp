#include "calque/io/text_lines.h"

#include <zlib.h>
#include <zstd.h>

#include "io/io_test_support.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::string kFixtures = test::fixtures() + "/text_lines/";

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  for_each_line(path, [&](std::string_view line) {
    lines.emplace_back(line);
    return true;
  });
  return lines;
}

std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// Lines of many lengths, the longest above one read (256 KiB), several reads in all.
std::string long_text() {
  std::string text;
  for (int i = 0; i < 1'500; ++i) text += std::string(static_cast<std::size_t>(i), 'a') + "\n";
  text += std::string(600'000, 'b') + "\nend\n";
  return text;
}

void expect_long_text(const std::filesystem::path& path) {
  const std::vector<std::string> lines = lines_of(path);
  ASSERT_EQ(lines.size(), 1'502u);
  for (std::size_t i = 0; i < 1'500; ++i) ASSERT_EQ(lines[i], std::string(i, 'a'));
  EXPECT_EQ(lines[1'500], std::string(600'000, 'b'));
  EXPECT_EQ(lines[1'501], "end");
  EXPECT_EQ(read_text(path), long_text());
}

TEST(TextLines, SplitsAtLineEndsAndKeepsAnUnfinishedLast) {
  const TempFolder folder;
  put(folder / "a.txt", "one\n\nthree\r\nlast");
  EXPECT_THAT(lines_of(folder / "a.txt"), ElementsAre("one", "", "three\r", "last"));
}

TEST(TextLines, SeesNoLineAfterAFinalLineEnd) {
  const TempFolder folder;
  put(folder / "a.txt", "one\n");
  EXPECT_THAT(lines_of(folder / "a.txt"), ElementsAre("one"));
}

TEST(TextLines, SeesNoLineInAnEmptyFile) {
  const TempFolder folder;
  put(folder / "a.txt", "");
  EXPECT_THAT(lines_of(folder / "a.txt"), IsEmpty());
  EXPECT_EQ(read_text(folder / "a.txt"), "");
}

TEST(TextLines, StopsWhenToldTo) {
  const TempFolder folder;
  for (const std::string name : {"a.txt", "a.gz", "a.zst"}) {
    const std::string text = long_text();
    put(folder / name, name == "a.gz" ? gzip(text) : name == "a.zst" ? zstd(text) : text);
    int seen = 0;
    for_each_line(folder / name, [&](std::string_view) { return ++seen < 3; });
    EXPECT_EQ(seen, 3) << name;
  }
}

// Compressed by the gzip and zstd programs.
TEST(TextLines, ReadsFilesOfTheUsualPrograms) {
  for (const std::string name : {"lines.txt.gz", "lines.txt.zst"})
    EXPECT_THAT(lines_of(kFixtures + name),
                ElementsAre("first line", "", "third, after an empty one", "last, without an end"))
        << name;
}

TEST(TextLines, JoinsLinesAcrossReads) {
  const TempFolder folder;
  put(folder / "a.txt", long_text());
  put(folder / "a.gz", gzip(long_text()));
  put(folder / "a.zst", zstd(long_text()));
  for (const std::string name : {"a.txt", "a.gz", "a.zst"}) expect_long_text(folder / name);
}

TEST(TextLines, ReadsConcatenatedMembersAndFrames) {
  const TempFolder folder;
  put(folder / "a.gz", gzip("one\ntw") + gzip("o\n"));
  put(folder / "a.zst", zstd("one\ntw") + zstd("o\n"));
  EXPECT_THAT(lines_of(folder / "a.gz"), ElementsAre("one", "two"));
  EXPECT_THAT(lines_of(folder / "a.zst"), ElementsAre("one", "two"));
}

// One decoder output buffer is 256 KiB; a frame that fills it exactly ends with it.
TEST(TextLines, ReadsAFrameThatFillsTheBufferExactly) {
  const TempFolder folder;
  const std::string text(1 << 18, 'c');
  put(folder / "a.zst", zstd(text));
  EXPECT_EQ(read_text(folder / "a.zst"), text);
}

TEST(TextLines, RefusesTruncatedCompressedFiles) {
  const TempFolder folder;
  const std::string gz = gzip(long_text());
  const std::string zst = zstd(long_text());
  put(folder / "a.gz", gz.substr(0, gz.size() - 9));
  put(folder / "a.zst", zst.substr(0, zst.size() - 1));
  EXPECT_THAT(error_of([&] { lines_of(folder / "a.gz"); }),
              IsError(ErrorKind::kInput, "a.gz: damaged gzip file"));
  EXPECT_THAT(error_of([&] { lines_of(folder / "a.zst"); }),
              IsError(ErrorKind::kInput, "a.zst: damaged zstd file: it ends in mid-frame"));
}

TEST(TextLines, RefusesDamagedCompressedFiles) {
  const TempFolder folder;
  std::string gz = gzip("some text to be protected by a checksum");
  gz[gz.size() - 6] ^= 1;  // the CRC: bytes 8 to 5 from the end (RFC 1952)
  std::string zst = content_of(kFixtures + "lines.txt.zst");
  zst.back() ^= 1;  // its checksum
  put(folder / "a.gz", gz);
  put(folder / "a.zst", zst);
  EXPECT_THAT(error_of([&] { read_text(folder / "a.gz"); }),
              IsError(ErrorKind::kInput, "damaged gzip file"));
  EXPECT_THAT(error_of([&] { read_text(folder / "a.zst"); }),
              IsError(ErrorKind::kInput, "damaged zstd file"));
}

TEST(TextLines, RefusesPlainTextUnderACompressedName) {
  const TempFolder folder;
  put(folder / "a.gz", "plain");
  put(folder / "a.zst", "plain text");
  EXPECT_THAT(error_of([&] { read_text(folder / "a.gz"); }),
              IsError(ErrorKind::kInput, "not a gzip file"));
  EXPECT_THAT(error_of([&] { read_text(folder / "a.zst"); }),
              IsError(ErrorKind::kInput, "damaged zstd file"));
}

TEST(TextLines, RefusesEmptyCompressedFiles) {
  const TempFolder folder;
  put(folder / "a.gz", "");
  put(folder / "a.zst", "");
  EXPECT_THAT(error_of([&] { read_text(folder / "a.gz"); }), IsError(ErrorKind::kInput, "gzip"));
  EXPECT_THAT(error_of([&] { read_text(folder / "a.zst"); }), IsError(ErrorKind::kInput, "zstd"));
}

TEST(TextLines, NamesAMissingFile) {
  for (const std::string name : {"/nowhere/a.txt", "/nowhere/a.gz", "/nowhere/a.zst"})
    EXPECT_THAT(error_of([&] { read_text(name); }),
                IsError(ErrorKind::kInput, name + ": cannot read: No such file"));
}

TEST(TextLines, RefusesAFolder) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { read_text(folder.path()); }),
              IsError(ErrorKind::kInput, "Is a directory"));
}

}  // namespace
}  // namespace calque::io
