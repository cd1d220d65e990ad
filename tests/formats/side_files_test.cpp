#include "calque/formats/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

TEST(SideFiles, AreCopiedOrNamed) {
  const TempFolder folder;
  for (const char* name :
       {"config.json", "README.md", ".gitattributes", "SHA256SUMS", "model.safetensors",
        "tokenizer.json", "LICENSE", "additional_chat_templates/tool_use.jinja",
        "additional_chat_templates/notes.txt", "pytorch_model.bin", "original/params.json",
        "hf_quant_config.json", "quantization_config.json", "recipe.yaml", "quantize_config.json"})
    io::write_file(folder / name, "{}");
  const SideFiles files = side_files(folder.path());
  EXPECT_THAT(files.copied,
              ElementsAre("LICENSE", "additional_chat_templates/tool_use.jinja", "tokenizer.json"));
  EXPECT_THAT(files.left_out,
              ElementsAre("additional_chat_templates/notes.txt", "hf_quant_config.json",
                          "original/", "pytorch_model.bin", "quantization_config.json",
                          "quantize_config.json", "recipe.yaml"));
  copy_side_files(folder.path(), folder / "copy");
  EXPECT_TRUE(std::filesystem::exists(folder / "copy/additional_chat_templates/tool_use.jinja"));
  EXPECT_FALSE(std::filesystem::exists(folder / "copy/recipe.yaml"));
}

TEST(SideFiles, MustBeThere) {
  for (const char* later : {"a.txt", "z.txt"}) {  // whatever the order of the folder
    const TempFolder folder;
    std::filesystem::create_symlink("none", folder / "tokenizer.model");
    io::write_file(folder / later, "x");
    EXPECT_THAT(error_of([&] { side_files(folder.path()); }).what(),
                HasSubstr("tokenizer.model: a link to none, which is not there"));
  }
}

TEST(SideFiles, AreNoGitLfsPointers) {
  const TempFolder folder;
  io::write_file(folder / "merges.txt", "version https://git-lfs.github.com/spec/v1\noid x\n");
  EXPECT_THAT(error_of([&] { side_files(folder.path()); }).what(),
              HasSubstr("merges.txt: a git-lfs pointer in place of the file"));
}

}  // namespace
}  // namespace calque::formats
