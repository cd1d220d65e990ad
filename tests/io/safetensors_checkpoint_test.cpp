#include "calque/io/safetensors.h"
#include "io/safetensors_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;
using ::testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

// Two shards, "a" and "b" in the first and "c" in the second, and an index that agrees.
class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() {
    put(folder_ / kFirst, file_of({"a", "b"}));
    put(folder_ / kSecond, file_of({"c"}));
    put_index({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}});
  }
  void put_index(const std::vector<std::pair<std::string, std::string>>& map) {
    std::vector<std::string> entries;
    for (const auto& [tensor, file] : map)
      entries.push_back(fmt::format(R"("{}":"{}")", tensor, file));
    put(folder_ / kIndex,
        fmt::format(R"({{"metadata":{{"total_size":12}},"weight_map":{}}})", object_of(entries)));
  }
  void expect_refused(const std::string& reason) {
    const Error error = error_of([&] { SafetensorsCheckpoint checkpoint(folder_.path()); });
    EXPECT_THAT(error, IsError(ErrorKind::kInput, reason));
    EXPECT_THAT(error.what(), HasSubstr(folder_.path().string()));
  }
  TempFolder folder_;
};

TEST_F(Checkpoint, HoldsTheTensorsOfAllShards) {
  const SafetensorsCheckpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 3u);
  EXPECT_EQ(checkpoint.find("c")->bytes.size(), 4u);
  EXPECT_EQ(checkpoint.at("b").name, "b");
  EXPECT_EQ(checkpoint.find("d"), nullptr);
  EXPECT_EQ(checkpoint.total_bytes(), 12u);
  EXPECT_THAT(checkpoint.files(), ::testing::ElementsAre(folder_ / kFirst, folder_ / kSecond));
}

TEST_F(Checkpoint, NamesTheNearestTensor) {
  const SafetensorsCheckpoint checkpoint(folder_.path());
  EXPECT_THAT(error_of([&] { checkpoint.at("cc"); }),
              IsError(ErrorKind::kInput, "has no tensor 'cc'; the nearest name there is 'c'"));
}

TEST_F(Checkpoint, PrefersTheWholeFile) {
  put(folder_ / "model.safetensors", file_of({"whole"}));
  const SafetensorsCheckpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.tensors().size(), 1u);
  EXPECT_NE(checkpoint.find("whole"), nullptr);
}

TEST_F(Checkpoint, NamesAMissingShard) {
  std::filesystem::remove(folder_ / kFirst);
  expect_refused(std::string(kFirst) +
                 ": missing, but model.safetensors.index.json says that 2 "
                 "tensors are in it; is the download complete?");
}

TEST_F(Checkpoint, NamesATruncatedShard) {
  const std::string bytes = file_of({"c"});
  put(folder_ / kSecond, bytes.substr(0, bytes.size() - 1));
  expect_refused(std::string(kSecond) + ": tensor 'c' (F32 [1]) needs 4 bytes, but the file has 3");
}

TEST_F(Checkpoint, RefusesAnIndexEntryThatNoShardHas) {
  put_index({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}, {"d", kSecond}});
  expect_refused(
      "index.json: lists tensor 'd' in model-00002-of-00002.safetensors, which does not");
}

TEST_F(Checkpoint, RefusesAShardTensorThatTheIndexLacks) {
  put_index({{"a", kFirst}, {"c", kSecond}});
  expect_refused(std::string(kFirst) +
                 ": holds tensor 'b', which model.safetensors.index.json does");
}

TEST_F(Checkpoint, RefusesATensorInTwoShards) {
  put(folder_ / kSecond, file_of({"c", "a"}));
  expect_refused(std::string(kSecond) +
                 ": holds tensor 'a', which model.safetensors.index.json "
                 "places in 'model-00001");
}

TEST_F(Checkpoint, RefusesATensorListedTwice) {
  put_index({{"a", kFirst}, {"b", kFirst}, {"a", kSecond}, {"c", kSecond}});
  expect_refused("the JSON name 'a' is given twice");
}

TEST_F(Checkpoint, RefusesFileNamesThatLeaveTheFolder) {
  for (const std::string name : {"../model.safetensors", "/etc/passwd", "..", ""}) {
    put_index({{"a", name}});
    expect_refused("weight_map maps tensor 'a' to '" + name + "', which is not a plain file name");
  }
}

TEST_F(Checkpoint, RefusesAnIndexOfAnotherShape) {
  put(folder_ / kIndex, "[]");
  expect_refused("has no object \"weight_map\"");
  put(folder_ / kIndex, R"({"weight_map": []})");
  expect_refused("has no object \"weight_map\"");
  put(folder_ / kIndex, R"({"weight_map": {"a": 1}})");
  expect_refused("gives tensor 'a' no file name");
  put(folder_ / kIndex, R"({"weight_map")");
  expect_refused("not JSON");
}

TEST(CheckpointFolder, RefusesAFolderOfPicklesWithTheReason) {
  const TempFolder folder;
  put(folder / "pytorch_model.bin", "PK");
  EXPECT_THAT(error_of([&] { SafetensorsCheckpoint checkpoint(folder.path()); }),
              IsError(ErrorKind::kInput, "only PyTorch pickles (*.bin), which can run code"));
}

TEST(CheckpointFolder, RefusesAFolderWithoutAModel) {
  const TempFolder folder;
  put(folder / "config.json", "{}");
  EXPECT_THAT(error_of([&] { SafetensorsCheckpoint checkpoint(folder.path()); }),
              IsError(ErrorKind::kInput, "holds neither model.safetensors nor"));
  EXPECT_THAT(error_of([&] { SafetensorsCheckpoint checkpoint(folder / "none"); }),
              IsError(ErrorKind::kInput, "no such folder"));
}

}  // namespace
}  // namespace calque::io
