// Files that the writer splits into shards. Expected sizes are worked out from the layout: a head
// of 24 bytes, the three split keys 82, a tensor with a name of one letter 33, all padded to 32.
#include "calque/io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace fs = std::filesystem;

// 24 + 82 + 45 + 2 * 33 = 217 -> 224, and two tensors: 352; with three 448. A later one: 320, 416.
constexpr std::uint64_t kTwoTensors = 400;

const GgufMetadata kArchitecture = {
    {"general.architecture", GgufValue::Scalar(std::string("llama"))}};

std::vector<GgufTensorDeclaration> tensors(const std::string& names, std::uint64_t bytes = 64) {
  std::vector<GgufTensorDeclaration> result;
  for (const char name : names) result.push_back({std::string(1, name), ggml::Type::kI8, {bytes}});
  return result;
}

class Split : public ::testing::Test {
 protected:
  void write(const std::vector<GgufTensorDeclaration>& declared, std::uint64_t limit,
             const GgufMetadata& metadata = kArchitecture) {
    GgufWriter writer(path_, metadata, declared, limit);
    for (auto tensor = declared.rbegin(); tensor != declared.rend(); ++tensor)
      writer.write(tensor->name, bytes_of(std::string(tensor->byte_count(), tensor->name[0])));
    writer.finish();
    written_ = writer.file_bytes();
  }
  std::uint64_t size_of(int number, int count) const {
    return fs::file_size(
        gguf_shard_path(path_, static_cast<std::size_t>(number), static_cast<std::size_t>(count)));
  }

  TempFolder folder_;
  fs::path path_ = folder_ / "m.gguf";
  std::uint64_t written_ = 0;
};

TEST_F(Split, KeepsTheTensorsInOrderAndEveryFileBelowTheLimit) {
  write(tensors("abcde"), kTwoTensors);
  EXPECT_THAT(names_in(folder_.path()),
              UnorderedElementsAre("m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                   "m-00003-of-00003.gguf"));
  EXPECT_EQ(size_of(1, 3), 352u);
  EXPECT_EQ(size_of(2, 3), 320u);
  EXPECT_EQ(size_of(3, 3), 224u);  // 24 + 82 + 33 = 139 -> 160, and 64
  EXPECT_EQ(written_, 352u + 320u + 224u);
}

TEST_F(Split, ReadsBackAsOne) {
  write(tensors("abcde"), kTwoTensors);
  const GgufFile file(folder_ / "m-00001-of-00003.gguf");
  ASSERT_EQ(file.tensors().size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, std::string(1, static_cast<char>('a' + i)));
    EXPECT_EQ(text_of(tensor.bytes), std::string(64, tensor.name[0]));
  }
  EXPECT_EQ(file.string("general.architecture"), "llama");
}

// The types are those that loaders insist on: u16 (2), u16, i32 (5).
TEST_F(Split, StoresTheKeysOfTheFormatByteForByte) {
  write(tensors("abcde"), kTwoTensors);
  const std::vector<std::string> keys = {gguf_key("split.no", 2, raw(std::uint16_t{1})),
                                         gguf_key("split.count", 2, raw(std::uint16_t{3})),
                                         gguf_key("split.tensors.count", 5, u32(5))};
  EXPECT_EQ(content_of(folder_ / "m-00002-of-00003.gguf"),
            gguf(keys, {gguf_tensor("c", {64}, 24, 0), gguf_tensor("d", {64}, 24, 64)}) +
                std::string(64, 'c') + std::string(64, 'd'));
}

TEST_F(Split, IsAnOrdinaryFileWhereEverythingFits) {
  write(tensors("abcde"), 1'000'000);
  EXPECT_THAT(names_in(folder_.path()), UnorderedElementsAre("m.gguf"));
  EXPECT_EQ(GgufFile(path_).find("split.count"), nullptr);
  // 24 + 45 + 5 * 33 = 234 -> 256, and 320: exactly at the limit is within it.
  write(tensors("abcde"), 576);
  EXPECT_THAT(names_in(folder_.path()), UnorderedElementsAre("m.gguf"));
  write(tensors("abcde"), 575);
  EXPECT_EQ(names_in(folder_.path()).size(), 2u);
}

TEST_F(Split, GivesATensorAboveTheLimitAFileOfItsOwn) {
  std::vector<GgufTensorDeclaration> declared = tensors("abcd");
  declared[1].ne = {1000};
  write(declared, kTwoTensors);
  EXPECT_EQ(names_in(folder_.path()).size(), 3u);
  EXPECT_EQ(size_of(2, 3), 160u + 1024u);
  EXPECT_EQ(GgufFile(folder_ / "m-00001-of-00003.gguf").find_tensor("b")->bytes.size(), 1000u);
}

TEST_F(Split, HasAFirstFileWithoutTensorsWhereItsKeysLeaveNoRoom) {
  const GgufMetadata long_text = {{"k", GgufValue::Scalar(std::string(300, 't'))}};
  write(tensors("ab"), kTwoTensors, long_text);
  EXPECT_EQ(names_in(folder_.path()).size(), 2u);
  const GgufFile file(folder_ / "m-00001-of-00002.gguf");
  EXPECT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.string("k"), std::string(300, 't'));
  EXPECT_EQ(size_of(2, 2), 320u);
}

TEST_F(Split, LeavesNothingBehindWithoutFinish) {
  { GgufWriter writer(path_, kArchitecture, tensors("abcde"), kTwoTensors); }
  EXPECT_THAT(names_in(folder_.path()), IsEmpty());
}

// A folder in the place of the first shard, which is renamed last.
TEST_F(Split, TakesBackEveryFileIfOneCannotGetItsName) {
  fs::create_directories(folder_ / "m-00001-of-00003.gguf" / "in the way");
  EXPECT_THAT(error_of([&] { write(tensors("abcde"), kTwoTensors); }),
              IsError(ErrorKind::kResource, "m-00001-of-00003.gguf: cannot rename"));
  EXPECT_THAT(names_in(folder_.path()),
              UnorderedElementsAre("m-00001-of-00003.gguf", "m-00001-of-00003.gguf/in the way"));
}

TEST_F(Split, ReplacesEveryFileOfItsName) {
  write(tensors("abcde"), kTwoTensors);
  put(folder_ / "other-00001-of-00003.gguf", "kept");
  write(tensors("abcd"), kTwoTensors);
  EXPECT_THAT(names_in(folder_.path()),
              UnorderedElementsAre("m-00001-of-00002.gguf", "m-00002-of-00002.gguf",
                                   "other-00001-of-00003.gguf"));
  write(tensors("a"), kTwoTensors);
  EXPECT_THAT(names_in(folder_.path()),
              UnorderedElementsAre("m.gguf", "other-00001-of-00003.gguf"));
}

// A file without a limit is just that file.
TEST_F(Split, LeavesShardsAloneThatItKnowsNothingOf) {
  write(tensors("abcd"), kTwoTensors);
  write(tensors("a"), 0);
  EXPECT_EQ(names_in(folder_.path()).size(), 3u);
}

TEST_F(Split, IsFoundByTheNameOfTheWhole) {
  EXPECT_THAT(gguf_files_of(path_), IsEmpty());
  EXPECT_EQ(gguf_entry_of(path_), path_);
  write(tensors("abcd"), kTwoTensors);
  EXPECT_THAT(gguf_files_of(path_),
              ElementsAre(folder_ / "m-00001-of-00002.gguf", folder_ / "m-00002-of-00002.gguf"));
  EXPECT_EQ(gguf_entry_of(path_), folder_ / "m-00001-of-00002.gguf");
  put(folder_ / "m-00001-of-00004.gguf", "of another set");
  EXPECT_EQ(gguf_entry_of(path_), path_);
  put(path_, "whole");
  EXPECT_EQ(gguf_files_of(path_).front(), path_);
  EXPECT_EQ(gguf_entry_of(path_), path_);
}

TEST_F(Split, IsNotFoundByNamesThatOnlyLookSimilar) {
  for (const char* name :
       {"m-0001-of-00002.gguf", "m-00001-of-0000x.gguf", "mm-00001-of-00002.gguf",
        "m-00001-of-00002.ggug", "m-00001_of_00002.gguf"})
    put(folder_ / name, "");
  EXPECT_THAT(gguf_files_of(path_), IsEmpty());
}

TEST(ShardPath, KeepsAnExtensionThatIsNotGguf) {
  EXPECT_EQ(gguf_shard_path("out/m.gguf", 2, 3), "out/m-00002-of-00003.gguf");
  EXPECT_EQ(gguf_shard_path("m.q4", 12, 100000), "m.q4-00012-of-100000.gguf");
}

}  // namespace
}  // namespace calque::io
