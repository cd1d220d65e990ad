#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/imatrix.h"
#include "calque/io/safetensors.h"
#include "calque/io/text_lines.h"
#include "support/temp_folder.h"

// `calque explain` has a page for each of these.
namespace calque::io {
namespace {

using calque::testing::TempFolder;

std::string code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return "no error";
}

TEST(ErrorCodes, OfDamagedWeightsAreE170) {
  const TempFolder folder;
  write_file(folder / "model.safetensors", "no header");
  EXPECT_EQ(code_of([&] { SafetensorsFile(folder / "model.safetensors"); }), "E170");
  EXPECT_EQ(code_of([&] { SafetensorsCheckpoint(folder / "nowhere"); }), "E170");
  write_file(folder / "model.gguf", "GGUF and no more");
  EXPECT_EQ(code_of([&] { GgufFile(folder / "model.gguf"); }), "E170");
  EXPECT_EQ(code_of([&] { read_imatrix(folder / "model.gguf"); }), "E170");
}

TEST(ErrorCodes, OfDamagedTextsAreE212) {
  const TempFolder folder;
  for (const char* name : {"text.gz", "text.zst"}) {
    write_file(folder / name, "not compressed");
    EXPECT_EQ(code_of([&] { read_text(folder / name); }), "E212") << name;
  }
}

TEST(ErrorCodes, OfPathsThatCannotBeReadAreE202) {
  const TempFolder folder;
  EXPECT_EQ(code_of([&] { read_file(folder / "nowhere"); }), "E202");
  EXPECT_EQ(code_of([&] { MappedFile(folder.path()); }), "E202");
}

TEST(ErrorCodes, OfPathsThatCannotBeWrittenAreE303) {
  const TempFolder folder;
  write_file(folder / "file", "in the place of a folder");
  EXPECT_EQ(code_of([&] { write_file(folder / "file" / "below", "text"); }), "E303");
}

}  // namespace
}  // namespace calque::io
