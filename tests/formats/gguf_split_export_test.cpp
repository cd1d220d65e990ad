// GGUF exports in several files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/io/gguf.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::error_of;
using testing::expect_same;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

class SplitExport : public ::testing::Test {
 protected:
  ExportRequest request(std::uint64_t limit) const {
    ExportRequest result;
    result.format = "gguf";
    result.path = folder_ / "out" / "m.gguf";
    result.type = "Q4_0";
    result.split_max_bytes = limit;
    return result;
  }

  TempFolder folder_;
  TinyModel model_{folder_ / "Tiny", {}};
};

TEST_F(SplitExport, ReadsBackWhatWasWritten) {
  const ExportRequest split = request(20'000);
  const auto written = write_random(model_.plan(split), model_.inputs());
  const auto shards = io::gguf_files_of(split.path);
  ASSERT_GT(shards.size(), 1u);
  EXPECT_EQ(weights_path(split.path), shards.front());
  EXPECT_FALSE(std::filesystem::exists(split.path));
  for (const auto& shard : shards) EXPECT_LE(std::filesystem::file_size(shard), 20'000u) << shard;
  for (const auto& path : {split.path, shards.front()}) {
    const auto reader = open_artifact(path);
    EXPECT_EQ(reader->tensors().size(), model_.family().tensors().size());
    for (const auto& [name, q] : written)
      if (!q.grid.block) expect_same(*reader->quantized(name), q);
  }
}

TEST_F(SplitExport, IsTheWholeFileInTensorsAndKeys) {
  const ExportRequest split = request(20'000);
  write_random(model_.plan(split), model_.inputs());
  ExportRequest whole = request(0);
  whole.path = folder_ / "whole.gguf";
  write_random(model_.plan(whole), model_.inputs());
  const io::GgufFile shards(weights_path(split.path));
  const io::GgufFile one(whole.path);
  EXPECT_EQ(shards.metadata().size(), one.metadata().size() + 3);
  ASSERT_EQ(shards.tensors().size(), one.tensors().size());
  for (std::size_t i = 0; i < one.tensors().size(); ++i) {
    EXPECT_EQ(shards.tensors()[i].name, one.tensors()[i].name);
    EXPECT_TRUE(std::equal(one.tensors()[i].bytes.begin(), one.tensors()[i].bytes.end(),
                           shards.tensors()[i].bytes.begin()));
  }
}

TEST_F(SplitExport, KeepsItsNameWhereOneFileIsEnough) {
  const ExportRequest split = request(10'000'000);
  write_random(model_.plan(split), model_.inputs());
  EXPECT_TRUE(std::filesystem::exists(split.path));
  EXPECT_EQ(weights_path(split.path), split.path);
}

TEST_F(SplitExport, IsNotWrittenOverShardsUnlessTold) {
  ExportRequest split = request(20'000);
  write_random(model_.plan(split), model_.inputs());
  for (const std::uint64_t limit : {std::uint64_t{20'000}, std::uint64_t{0}}) {
    const Error error =
        error_of([&] { open_writer(model_.plan(request(limit)), model_.inputs()); });
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_THAT(error.what(), HasSubstr("m-00001-of-"));
    EXPECT_THAT(error.what(), HasSubstr("already exists"));
  }
  ExportRequest whole = request(0);
  whole.overwrite = true;
  write_random(model_.plan(whole), model_.inputs());
  EXPECT_EQ(io::gguf_files_of(whole.path).size(), 1u);
}

TEST_F(SplitExport, LeavesNothingHalfMade) {
  const ExportRequest split = request(20'000);
  { open_writer(model_.plan(split), model_.inputs()); }
  EXPECT_TRUE(io::gguf_files_of(split.path).empty());
  EXPECT_TRUE(std::filesystem::is_empty(split.path.parent_path()));
}

}  // namespace
}  // namespace calque::formats
