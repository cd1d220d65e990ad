#include "calque/io/hub_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "calque/core/error.h"
#include "support/temp_folder.h"

// A cache as Hugging Face's tools leave it, of files that hold nothing.

namespace calque::io {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kHash = "0a1b2c3d";

void touch(const fs::path& path, const std::string& text = "") {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

class HubCache : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"}) {
      const char* value = std::getenv(name);
      before_.emplace_back(name, value == nullptr ? "" : value);
      unsetenv(name);
    }
    setenv("HF_HUB_CACHE", folder_.path().c_str(), 1);
    touch(model() / "refs/main", kHash);
    for (const char* file : {"config.json", "model.safetensors"}) put(file);
  }
  void TearDown() override {
    for (const auto& [name, value] : before_)
      if (value.empty())
        unsetenv(name.c_str());
      else
        setenv(name.c_str(), value.c_str(), 1);
  }

  fs::path model() const { return folder_ / "models--acme--Tiny-1B"; }
  fs::path snapshot() const { return model() / "snapshots" / kHash; }
  // A blob and the link to it.
  void put(const std::string& file) {
    touch(model() / "blobs" / file);
    fs::create_directories(snapshot());
    fs::create_symlink("../../blobs/" + file, snapshot() / file);
  }
  static std::string refusal(const std::function<void()>& act) {
    try {
      act();
    } catch (const Error& error) {
      return error.code() + " " + error.what();
    }
    return "";
  }

  testing::TempFolder folder_;
  std::vector<std::pair<std::string, std::string>> before_;
};

TEST_F(HubCache, LiesWhereHuggingFacesToolsPutIt) {
  unsetenv("HF_HUB_CACHE");
  setenv("HOME", "/home/u", 1);
  EXPECT_EQ(hub_cache(), "/home/u/.cache/huggingface/hub");
  setenv("XDG_CACHE_HOME", "/x", 1);
  EXPECT_EQ(hub_cache(), "/x/huggingface/hub");
  setenv("HF_HOME", "/h", 1);
  EXPECT_EQ(hub_cache(), "/h/hub");
  setenv("HF_HUB_CACHE", "/c", 1);
  EXPECT_EQ(hub_cache(), "/c");
}

TEST_F(HubCache, ANameMeansTheSnapshotOfMainABranchOrAHash) {
  touch(model() / "refs/refs/pr/1", kHash);
  for (const char* name : {"acme/Tiny-1B", "acme/Tiny-1B@main", "acme/Tiny-1B@refs/pr/1",
                           "acme/Tiny-1B@0a1b2c3d", "acme/Tiny-1B@0a1b"})
    EXPECT_EQ(find_in_hub_cache(name), snapshot()) << name;
  EXPECT_EQ(find_in_hub_cache("acme/Tiny-1B@dev"), std::nullopt);
  EXPECT_EQ(find_in_hub_cache("acme/Tiny"), std::nullopt);
}

TEST_F(HubCache, OnlyOneSlashMakesAName) {
  for (const char* name : {"acme/Tiny-1B", "a/b_c.d", "acme/Tiny-1B@main"})
    EXPECT_TRUE(is_hub_name(name)) << name;
  for (const char* path : {"demo", "/models/x", "./acme/x", "../x", "a/b/c", "acme/", "acme/x y",
                           "acme/x.gguf", "acme/x@", "~/x"})
    EXPECT_FALSE(is_hub_name(path)) << path;
}

TEST_F(HubCache, ASnapshotIsNamedAsOnTheHub) {
  const auto model = hub_model_of(snapshot());
  ASSERT_TRUE(model);
  EXPECT_EQ(model->text(), "acme/Tiny-1B@0a1b2c3d");
  EXPECT_EQ(name_of_model(snapshot()), "Tiny-1B");
  EXPECT_EQ(name_of_model(snapshot() / "tiny-Q8_0.gguf"), "tiny-Q8_0");
  EXPECT_EQ(name_of_model("/models/demo"), "demo");
  EXPECT_EQ(hub_model_of("/models/demo"), std::nullopt);
}

TEST_F(HubCache, ANameThatIsNotThereIsRefusedWithTheCommandAndTheNearestName) {
  EXPECT_THAT(
      refusal([] { refuse_hub_name("acme/Tiny-2B", "/w/acme/Tiny-2B"); }),
      AllOf(HasSubstr("E178 there is no '/w/acme/Tiny-2B'"), HasSubstr("hf download acme/Tiny-2B"),
            HasSubstr("nearest name in the cache is acme/Tiny-1B")));
  EXPECT_THAT(refusal([] { refuse_hub_name("acme/Tiny-1B@dev", "x"); }),
              AllOf(HasSubstr("hf download acme/Tiny-1B --revision dev"),
                    HasSubstr("another revision of acme/Tiny-1B is there")));
}

TEST_F(HubCache, AWholeSnapshotPasses) {
  EXPECT_EQ(refusal([this] { check_snapshot(snapshot()); }), "");
  EXPECT_EQ(refusal([] { check_snapshot("/models/none"); }), "");
}

TEST_F(HubCache, ALinkWhoseBlobIsMissingIsNotThere) {
  fs::remove(model() / "blobs/model.safetensors");
  EXPECT_THAT(refusal([this] { check_snapshot(snapshot()); }),
              AllOf(HasSubstr("E179 acme/Tiny-1B in the Hugging Face cache is not complete"),
                    HasSubstr("hf download acme/Tiny-1B --revision 0a1b2c3d")));
}

TEST_F(HubCache, AShardOfTheIndexThatIsMissingIsNamed) {
  touch(snapshot() / "model.safetensors.index.json",
        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  put("model-1.safetensors");
  EXPECT_THAT(refusal([this] { check_snapshot(snapshot()); }),
              HasSubstr("1 of the weights is not there: model-2.safetensors"));
}

TEST_F(HubCache, OneGgufFileIsTheModelAndSeveralAreRefused) {
  fs::remove(snapshot() / "model.safetensors");
  put("tiny-F16.gguf");
  EXPECT_EQ(find_in_hub_cache("acme/Tiny-1B"), snapshot() / "tiny-F16.gguf");
  put("tiny-Q8_0.gguf");
  EXPECT_THAT(refusal([] { find_in_hub_cache("acme/Tiny-1B"); }),
              HasSubstr("holds several GGUF files: tiny-F16.gguf, tiny-Q8_0.gguf"));
}

}  // namespace
}  // namespace calque::io
