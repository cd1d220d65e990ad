// Tests without a forward pass: merging, statistics, refusals. tests/pipeline has those with one.
#include "calque/io/imatrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/imatrix_statistics.h"
#include "cli/run_program.h"
#include "support/paths.h"

namespace calque::cli {
namespace {

using ::testing::HasSubstr;

const std::string kGguf = shell_quoted(test::fixtures() + "/gguf/tiny-imatrix.gguf");
const std::string kDat = shell_quoted(test::fixtures() + "/gguf/tiny-imatrix.dat");

TEST(Imatrix, MergesFilesOfBothFormats) {
  const testing::TempFolder folder;
  const std::string out = shell_quoted(folder / "both.gguf");
  const Outcome outcome = run("imatrix --in-file " + kGguf + " --in-file " + kDat + " -o " + out);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("both.gguf: 14 entries, 32 chunks\n"));
  const io::Imatrix both = io::read_imatrix(folder / "both.gguf");
  EXPECT_THAT(both.find("blk.0.attn_k.weight")->counts, ::testing::ElementsAre(4096.0));
}

TEST(Imatrix, WritesTheFormatThatIsAskedFor) {
  const testing::TempFolder folder;
  for (const std::string arguments : {"a.dat", "b.bin --format dat"}) {
    const Outcome outcome =
        run("imatrix --in-file " + kGguf + " -o " + folder.path().string() + "/" + arguments);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  }
  const std::string expected = contents_of(test::fixtures() + "/gguf/tiny-imatrix.dat");
  EXPECT_EQ(contents_of(folder / "a.dat"), expected);
  EXPECT_EQ(contents_of(folder / "b.bin"), expected);
}

TEST(Imatrix, KeepsNoFoldersOfOthers) {
  const testing::TempFolder folder;
  io::Imatrix imatrix = io::read_imatrix(test::fixtures() + "/gguf/tiny-imatrix.gguf");
  imatrix.datasets = {"/home/somebody/texts/wiki.txt"};
  io::write_imatrix(imatrix, folder / "in.gguf");
  ASSERT_EQ(run("imatrix --in-file " + shell_quoted(folder / "in.gguf") + " -o " +
                shell_quoted(folder / "out.gguf"))
                .exit_code,
            0);
  EXPECT_THAT(io::read_imatrix(folder / "out.gguf").datasets, ::testing::ElementsAre("wiki.txt"));
}

TEST(Imatrix, RefusesBeforeItWorks) {
  const testing::TempFolder folder;
  write(folder / "there.gguf", "kept");
  const std::string there = shell_quoted(folder / "there.gguf");
  const Outcome exists = run("imatrix --in-file " + kGguf + " -o " + there);
  EXPECT_EQ(exists.exit_code, 2);
  EXPECT_THAT(exists.err, HasSubstr("error[E209]"));
  EXPECT_EQ(contents_of(folder / "there.gguf"), "kept");
  EXPECT_EQ(run("imatrix --overwrite --in-file " + kGguf + " -o " + there).exit_code, 0);
  EXPECT_THAT(run("imatrix -o x.gguf").err, HasSubstr("give MODEL and TEXT"));
  EXPECT_THAT(run("imatrix " + test::demo_model() + " -o x.gguf").err, HasSubstr("give a text"));
  EXPECT_THAT(run("imatrix --in-file " + kGguf).err, HasSubstr("-o FILE"));
  const Outcome model = run("imatrix --show-statistics --in-file " +
                            shell_quoted(test::fixtures() + "/gguf/tiny-1layer-Q4_0.gguf"));
  EXPECT_EQ(model.exit_code, 3);
  EXPECT_THAT(model.err, HasSubstr("it is a model"));
}

// Four columns of 1 and no others are used evenly: entropy log 4 of log 4 or log 8 = 2 / 3.
TEST(ImatrixStatistics, SayHowEvenlyColumnsAreUsed) {
  io::Imatrix imatrix;
  imatrix.entries["even"] = {.matrices = 1, .sums = {5, 5, 5, 5}, .counts = {5}};
  // Filled in two steps: GCC 12.2 with AVX-512 makes eight twos of the list {2, 2, 2, 2, 0, 0, 0,
  // 0}.
  io::ImatrixEntry half{.matrices = 2, .sums = std::vector<double>(8, 0.0), .counts = {2, 3}};
  std::fill_n(half.sums.begin(), 4, 2.0);
  imatrix.entries["half"] = half;
  imatrix.entries["one"] = {.matrices = 2, .sums = {4, 0, 0, 0}, .counts = {2, 0}};
  EXPECT_EQ(statistics_text(imatrix),
            "tensor  columns  matrices  unseen  tokens  mean x^2  largest     zero  evenness\n"
            "even          4         1       0       5         1        1   0.00 %    1.0000\n"
            "half          4         2       0       5       0.5        1  50.00 %    0.6667\n"
            "one           2         2       1       2         1        2  50.00 %    0.0000\n");
}

}  // namespace
}  // namespace calque::cli
