#include "calque/io/gguf.h"
#include "io/gguf_bytes.h"
#include "support/temp_folder.h"

namespace calque::io {
namespace {

using namespace calque::testing;

std::string name(int shard, int count = 3) {
  return "model-0000" + std::to_string(shard) + "-of-0000" + std::to_string(count) + ".gguf";
}

// As llama-gguf-split writes them: split.no and split.count u16, split.tensors.count i32.
std::vector<std::string> split_keys(std::uint16_t number, std::uint16_t count,
                                    std::uint32_t tensors) {
  return {gguf_key("split.no", 2, raw(number)), gguf_key("split.count", 2, raw(count)),
          gguf_key("split.tensors.count", 5, u32(tensors))};
}

std::string shard(std::uint16_t number, const std::string& tensor, std::uint32_t tensors = 3,
                  std::uint16_t count = 3) {
  std::vector<std::string> keys = split_keys(number, count, tensors);
  if (number == 0) keys.push_back(gguf_key("general.architecture", 8, gguf_string("llama")));
  return gguf(keys, {gguf_tensor(tensor, {1}, 0, 0)}) + tensor + std::string(3, '.');
}

class Shards : public ::testing::Test {
 protected:
  Shards() {
    put(folder_ / name(1), shard(0, "a"));
    put(folder_ / name(2), shard(1, "b"));
    put(folder_ / name(3), shard(2, "c"));
  }
  void expect_refused(const std::string& file, const std::string& reason) {
    const Error error = error_of([&] { GgufFile opened(folder_ / file); });
    EXPECT_THAT(error, IsError(ErrorKind::kInput, reason));
  }
  TempFolder folder_;
};

TEST_F(Shards, OpenTogether) {
  const GgufFile file(folder_ / name(1));
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(text_of(file.find_tensor("a")->bytes), "a...");
  EXPECT_EQ(text_of(file.find_tensor("c")->bytes), "c...");
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.metadata().size(), 4u);
  EXPECT_EQ(file.file_bytes(), shard(0, "a").size() + 2 * shard(1, "b").size());
}

TEST_F(Shards, MayHaveAFirstOneWithoutTensors) {
  put(folder_ / name(1), gguf(split_keys(0, 3, 2), {}));
  put(folder_ / name(2), shard(1, "b", 2));
  put(folder_ / name(3), shard(2, "c", 2));
  EXPECT_EQ(GgufFile(folder_ / name(1)).tensors().size(), 2u);
}

TEST_F(Shards, OfOneAreAnOrdinaryFile) {
  put(folder_ / "any.gguf", shard(0, "a", 1, 1));
  EXPECT_EQ(GgufFile(folder_ / "any.gguf").tensors().size(), 1u);
}

TEST_F(Shards, CannotBeOpenedFromALaterOne) {
  expect_refused(name(2), "is shard 2 of 3; open the first one (...-00001-of-00003.gguf)");
}

TEST_F(Shards, MustHaveTheNamesThatLeadToTheOthers) {
  put(folder_ / "renamed.gguf", shard(0, "a"));
  expect_refused("renamed.gguf", "does not end in -00001-of-00003.gguf");
}

TEST_F(Shards, MustAllBeThere) {
  std::filesystem::remove(folder_ / name(3));
  expect_refused(name(1), name(3) + ": cannot read: No such file");
}

TEST_F(Shards, MustBeInOrder) {
  put(folder_ / name(2), shard(2, "b"));
  expect_refused(name(1), "says it is shard 3 of 3, but shard 2 of 3 is needed");
}

TEST_F(Shards, MustAgreeOnTheirCount) {
  put(folder_ / name(2), shard(1, "b", 3, 4));
  expect_refused(name(1), "says it is shard 2 of 4, but shard 2 of 3 is needed");
}

TEST_F(Shards, MustHoldAsManyTensorsAsTheFirstSays) {
  put(folder_ / name(1), shard(0, "a", 4));
  expect_refused(name(1), "the shards hold 3 tensors, but key 'split.tensors.count' says 4");
}

TEST_F(Shards, MustNotRepeatATensor) {
  put(folder_ / name(3), shard(2, "a"));
  expect_refused(name(1), name(3) + ": tensor 'a' is in an earlier shard too");
}

TEST_F(Shards, MustHaveTheirKeys) {
  put(folder_ / name(2), gguf({}, {gguf_tensor("b", {1}, 0, 0)}, 4));
  expect_refused(name(1), name(2) + ": key 'split.no' of a sharded file is missing");
  put(folder_ / name(1), gguf({gguf_key("split.count", 8, gguf_string("3"))}, {}));
  expect_refused(name(1), "key 'split.count' of a sharded file is missing or not an integer");
  put(folder_ / name(1), gguf({gguf_key("split.count", 5, u32(~0u))}, {}));
  expect_refused(name(1), "key 'split.count' is -1, out of range");
}

}  // namespace
}  // namespace calque::io
