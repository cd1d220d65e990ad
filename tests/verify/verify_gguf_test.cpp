// Faults in a GGUF file that its container cannot detect: values that are not finite.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "calque/io/gguf.h"
#include "calque/verify/verify.h"
#include "formats/support.h"
#include "support/damage.h"
#include "support/temp_folder.h"

namespace calque::verify {
namespace {

using calque::testing::TempFolder;
using formats::testing::TinyModel;
using formats::testing::write_random;
using ::testing::HasSubstr;

// Byte offsets of a block's scales (src/ggml/README.md; IQ1, IQ2 and IQ3 as the `gguf` Python
// package reads them; Q8_1 and Q8_K, which do not occur in files, as ggml declares them).
struct BlockScales {
  std::string_view type;
  std::vector<std::size_t> halves = {};
};
const std::vector<BlockScales>& block_scales() {
  static const std::vector<BlockScales> table = {
      {"F16", {0}},     {"Q4_0", {0}},    {"Q4_1", {0, 2}},   {"Q5_0", {0}},   {"Q5_1", {0, 2}},
      {"Q8_0", {0}},    {"Q8_1", {0, 2}}, {"Q2_K", {80, 82}}, {"Q3_K", {108}}, {"Q4_K", {0, 2}},
      {"Q5_K", {0, 2}}, {"Q6_K", {208}},  {"IQ4_NL", {0}},    {"IQ4_XS", {0}}, {"IQ2_XXS", {0}},
      {"IQ2_XS", {0}},  {"IQ2_S", {0}},   {"IQ3_XXS", {0}},   {"IQ3_S", {0}},  {"IQ1_S", {0}},
      {"TQ1_0", {52}},  {"TQ2_0", {64}},  {"Q1_0", {0}},      {"Q2_0", {0}}};
  return table;
}

// Two rows of two blocks, all zero bytes.
struct Blocks {
  explicit Blocks(std::string_view name) : info(*ggml::find_type(name)) {
    bytes.resize(4 * block_bytes());
  }
  std::size_t block_bytes() const { return info.block_bytes; }
  // Sets a value in block 0 of row 1.
  template <typename T>
  void set(std::size_t offset, T value) {
    std::memcpy(bytes.data() + 2 * block_bytes() + offset, &value, sizeof(value));
  }
  std::string fault() const {
    return ggml::first_fault(info.type, bytes, static_cast<std::uint64_t>(2 * info.block_columns));
  }

  const ggml::TypeInfo& info;
  std::vector<std::byte> bytes;
};

TEST(GgmlFault, IsAScaleOfAnyTypeThatIsNoNumber) {
  for (const BlockScales& scales : block_scales())
    for (const std::size_t offset : scales.halves) {
      SCOPED_TRACE(scales.type);
      Blocks blocks(scales.type);
      EXPECT_EQ(blocks.fault(), "");
      blocks.set(offset, std::uint16_t{0x7BFF});  // 65504, the largest number
      EXPECT_EQ(blocks.fault(), "");
      const std::string where =
          scales.type == "F16" ? "row 1, column 0 holds " : "block 0 of row 1 has scale ";
      blocks.set(offset, std::uint16_t{0x7C00});
      EXPECT_EQ(blocks.fault(), where + "inf");
      blocks.set(offset, std::uint16_t{0xFC00});
      EXPECT_EQ(blocks.fault(), where + "-inf");
      blocks.set(offset, std::uint16_t{0x7E00});
      EXPECT_EQ(blocks.fault(), where + "nan");
    }
}

TEST(GgmlFault, IsAPowerOfTwoThatIsNone) {
  Blocks blocks("MXFP4");
  blocks.set(0, std::uint8_t{0xFE});
  EXPECT_EQ(blocks.fault(), "");
  blocks.set(0, std::uint8_t{0xFF});
  EXPECT_EQ(blocks.fault(), "block 0 of row 1 has scale nan");
}

TEST(GgmlFault, IsAScaleThatIsSpreadOverTheBlock) {
  Blocks blocks("IQ1_M");
  // The nibbles of 0x7C00, from the low one, in the top four bits of four words.
  for (const auto& [offset, word] : {std::pair{48, 0x0FFF}, {50, 0x0FFF}, {52, 0xCFFF}})
    blocks.set(static_cast<std::size_t>(offset), static_cast<std::uint16_t>(word));
  EXPECT_EQ(blocks.fault(), "");
  blocks.set(54, std::uint16_t{0x7FFF});
  EXPECT_EQ(blocks.fault(), "block 0 of row 1 has scale inf");
}

TEST(GgmlFault, IsAnElementThatIsNoNumber) {
  Blocks single("F32");
  single.set(0, std::numeric_limits<float>::max());
  EXPECT_EQ(single.fault(), "");
  single.set(0, std::numeric_limits<float>::infinity());
  EXPECT_EQ(single.fault(), "row 1, column 0 holds inf");
  Blocks wide("F64");
  wide.set(0, std::nan(""));
  EXPECT_EQ(wide.fault(), "row 1, column 0 holds nan");
  Blocks brain("BF16");
  brain.set(0, std::uint16_t{0x7F80});
  EXPECT_EQ(brain.fault(), "row 1, column 0 holds inf");
  Blocks activations("Q8_K");
  activations.set(0, std::nanf(""));
  EXPECT_EQ(activations.fault(), "block 0 of row 1 has scale nan");
}

// 0x7F, the one that would be NaN, counts as 0 there.
TEST(GgmlFault, CannotBeInIntegersOrNvfp4) {
  for (const char* type : {"NVFP4", "I8", "I16", "I32", "I64"}) {
    Blocks blocks(type);
    std::fill(blocks.bytes.begin(), blocks.bytes.end(), std::byte{0x7F});
    EXPECT_EQ(blocks.fault(), "") << type;
  }
}

std::string text_of(const std::vector<Finding>& findings, Finding::Verdict verdict) {
  std::string text;
  for (const Finding& f : findings)
    if (f.verdict == verdict) text += f.check + ": " + f.message + "\n";
  return text;
}

// A sound file of calque's, and one with the bytes at `offset` of a tensor changed.
class VerifyGguf : public ::testing::Test {
 protected:
  void write(const std::string& type, std::uint64_t split = 0) {
    TinyModel::Options options;
    options.hidden = options.intermediate = 256;
    options.rope_scaling =
        R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
    const TinyModel model(folder_ / "Tiny", options);
    formats::ExportRequest request;
    request.format = "gguf";
    request.path = path_;
    request.type = type;
    request.overwrite = true;
    request.split_max_bytes = split;
    write_random(model.plan(request), model.inputs());
  }
  void damage(const std::string& name, std::size_t offset, std::vector<std::uint8_t> change) {
    std::filesystem::copy_file(path_, folder_ / "damaged.gguf");
    test::overwrite_gguf(folder_ / "damaged.gguf", name, offset, std::as_bytes(std::span(change)));
  }
  std::string faults(const std::string& file) const {
    return text_of(verify_files(folder_ / file), Finding::Verdict::kFault);
  }

  TempFolder folder_;
  std::filesystem::path path_ = folder_ / "m.gguf";
};

TEST_F(VerifyGguf, CountsWhatIsSound) {
  write("Q4_K_M");
  const std::vector<Finding> findings = verify_files(path_);
  EXPECT_EQ(text_of(findings, Finding::Verdict::kFault), "");
  // Two layers of 9, embedding, norm, output, and the divisors of the rotary frequencies.
  EXPECT_THAT(text_of(findings, Finding::Verdict::kOk),
              HasSubstr("values: 22 tensors contain only finite numbers"));
}

TEST_F(VerifyGguf, NamesTensorAndBlock) {
  write("Q4_K_M");
  damage("blk.1.ffn_up.weight", 3 * 144, {0x00, 0x7C});  // rows of one block of 144 bytes
  EXPECT_EQ(faults("damaged.gguf"),
            "values: tensor 'blk.1.ffn_up.weight' (Q4_K): block 0 of row 3 has scale inf: the file "
            "is damaged. Download it again.\n");
}

TEST_F(VerifyGguf, LooksAtTensorsThatNoModelNames) {
  write("Q8_0");
  damage("rope_freqs.weight", 4, {0x00, 0x00, 0x80, 0x7F});
  EXPECT_THAT(faults("damaged.gguf"), HasSubstr("rope_freqs.weight"));
}

TEST_F(VerifyGguf, FindsAnExponentThatDecodesToANumber) {
  write("MXFP4");
  damage("blk.0.ffn_up.weight", 0, {0xFF});
  EXPECT_THAT(faults("damaged.gguf"), HasSubstr("(MXFP4): block 0 of row 0 has scale nan"));
}

TEST_F(VerifyGguf, ReadsShardsByTheNameOfTheWhole) {
  write("Q4_K_M", 150'000);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(faults("m.gguf"), "");
  const std::vector<std::filesystem::path> shards = io::gguf_files_of(path_);
  ASSERT_GT(shards.size(), 2u);
  EXPECT_EQ(faults(shards.front().filename().string()), "");
  EXPECT_THAT(faults(shards.back().filename().string()), HasSubstr("open the first one"));
  std::filesystem::remove(shards.back());
  EXPECT_THAT(faults("m.gguf"), HasSubstr(shards.back().filename().string() + ": cannot read"));
}

}  // namespace
}  // namespace calque::verify
