// Artifacts that contradict themselves: what the error says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "calque/io/file.h"
#include "calque/io/json.h"
#include "formats/support.h"
#include "support/damage.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using io::Json;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

struct Tensor {
  io::TensorDeclaration declared;
  std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

const std::string kQ = "model.layers.0.self_attn.q_proj";

// A sound folder of ours (64 x 64 q_proj, groups of 32), taken apart, changed and put together.
class DamagedGptq : public ::testing::Test {
 protected:
  void write_sound(int bits = 4, bool sym = true, const std::string& checkpoint_format = "auto") {
    TinyModel::Options options;
    options.layers = 1;
    const TinyModel model(folder_ / "Tiny", options);
    ExportRequest request;
    request.format = "gptq";
    request.path = out_;
    request.checkpoint_format = checkpoint_format;
    written_ = write_random(model.plan(request, {.bits = bits, .group_size = 32, .sym = sym}),
                            model.inputs());
  }
  void change_tensors(const std::function<void(Tensors&)>& change) {
    Tensors tensors;
    {
      const io::SafetensorsCheckpoint checkpoint(out_);
      for (const io::TensorRef& t : checkpoint.tensors())
        tensors[t.name] = {{t.name, t.dtype, t.shape}, {t.bytes.begin(), t.bytes.end()}};
    }
    change(tensors);
    std::vector<io::TensorDeclaration> declared;
    for (auto& [name, tensor] : tensors) {
      tensor.declared.name = name;
      tensor.bytes.resize(tensor.declared.byte_count());
      declared.push_back(tensor.declared);
    }
    io::SafetensorsWriter writer(out_, declared);
    for (const auto& [name, tensor] : tensors) writer.write(name, tensor.bytes);
    writer.finish();
  }
  void change_settings(const std::function<void(Json&)>& change) {
    Json config = io::parse_json(io::read_file(out_ / "config.json"));
    change(config["quantization_config"]);
    io::write_file(out_ / "config.json", config.dump());
  }
  std::string open_error() {
    const Error error = error_of([&] { open_artifact(out_); });
    EXPECT_EQ(error.kind(), ErrorKind::kInput) << error.what();
    return error.what();
  }

  TempFolder folder_;
  fs::path out_ = folder_ / "out";
  std::map<std::string, quant::QuantizedMatrix> written_;
};

TEST_F(DamagedGptq, ThreeBitsAnnouncedAsFour) {
  write_sound(3);
  change_settings([](Json& s) { s["bits"] = 4; });
  EXPECT_THAT(open_error(), AllOf(HasSubstr(".qweight' has shape [6, "), HasSubstr("expected [8, "),
                                  HasSubstr("64 inputs"), HasSubstr("bits 4, group_size 32")));
}
TEST_F(DamagedGptq, AWidthThatDoesNotExist) {
  write_sound();
  change_settings([](Json& s) { s["bits"] = 5; });
  EXPECT_THAT(open_error(), HasSubstr("bits is 5; this layout stores 2, 3, 4 or 8 bits"));
}
TEST_F(DamagedGptq, BitsMissing) {
  write_sound();
  change_settings([](Json& s) { s.erase("bits"); });
  EXPECT_THAT(open_error(), AllOf(HasSubstr("config.json"), HasSubstr("'bits' is missing")));
}
TEST_F(DamagedGptq, BitsOfAnotherKind) {
  write_sound();
  change_settings([](Json& s) { s["bits"] = "4"; });
  EXPECT_THAT(open_error(), HasSubstr("'bits' is \"4\", expected an integer"));
}
TEST_F(DamagedGptq, AnotherGroupSize) {
  write_sound();
  change_settings([](Json& s) { s["group_size"] = 64; });
  EXPECT_THAT(open_error(),
              AllOf(HasSubstr(".scales' has shape [2, "), HasSubstr("expected [1, ")));
}
TEST_F(DamagedGptq, AGroupSizeOfZero) {
  write_sound();
  change_settings([](Json& s) { s["group_size"] = 0; });
  EXPECT_THAT(open_error(), HasSubstr("group_size is 0"));
}
TEST_F(DamagedGptq, ALayoutThatIsNotRead) {
  write_sound();
  change_settings([](Json& s) { s["checkpoint_format"] = "marlin"; });
  EXPECT_THAT(open_error(), HasSubstr("checkpoint_format 'marlin' cannot be read"));
}
TEST_F(DamagedGptq, AMethodThatIsNotRead) {
  write_sound();
  change_settings([](Json& s) { s["quant_method"] = "fp8"; });
  EXPECT_THAT(open_error(), HasSubstr("quant_method 'fp8' cannot be read"));
}
TEST_F(DamagedGptq, WordsThatFitNoWidthWhereModulesHaveTheirOwn) {
  write_sound();
  change_settings([](Json& s) { s["dynamic"] = {{"+:.*down_proj", {{"bits", 8}}}}; });
  change_tensors([](Tensors& t) { t[kQ + ".qzeros"].declared.shape = {2, 7}; });
  EXPECT_THAT(open_error(), AllOf(HasSubstr("module '" + kQ + "': 7 words for 64 codes"),
                                  HasSubstr("quantization_config")));
}
TEST_F(DamagedGptq, GroupsThatDoNotDivideTheInputsWhereModulesHaveTheirOwn) {
  write_sound();
  change_settings([](Json& s) { s["dynamic"] = {{"+:.*down_proj", {{"bits", 8}}}}; });
  change_tensors([](Tensors& t) { t[kQ + ".scales"].declared.shape = {3, 64}; });
  EXPECT_THAT(open_error(),
              HasSubstr("module '" + kQ + "': 3 groups of equal size do not make up 64 inputs"));
}
TEST_F(DamagedGptq, MissingScales) {
  write_sound();
  change_tensors([](Tensors& t) { t.erase(kQ + ".scales"); });
  EXPECT_THAT(open_error(), HasSubstr("its tensor '" + kQ + ".scales' is missing"));
}
TEST_F(DamagedGptq, MissingZeroPoints) {
  write_sound();
  change_tensors([](Tensors& t) { t.erase(kQ + ".qzeros"); });
  EXPECT_THAT(open_error(), HasSubstr("its tensor '" + kQ + ".qzeros' is missing"));
}
TEST_F(DamagedGptq, ZeroPointsOfAnotherShape) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".qzeros"].declared.shape = {2, 7}; });
  EXPECT_THAT(open_error(), HasSubstr(".qzeros' has shape [2, 7], expected [2, 8]"));
}
TEST_F(DamagedGptq, WordsOfAnotherType) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".qweight"].declared.dtype = DType::kI16; });
  EXPECT_THAT(open_error(), HasSubstr("is I16 [8, 64], expected a matrix of I32"));
}
TEST_F(DamagedGptq, EmptyTensors) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".qweight"].declared.shape = {8, 0}; });
  EXPECT_THAT(open_error(), HasSubstr("is I32 [8, 0], expected a matrix of I32"));
}
TEST_F(DamagedGptq, GroupsOutOfRange) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".g_idx"].bytes[4] = std::byte{9}; });
  const auto reader = open_artifact(out_);
  const Error error = error_of([&] { reader->load(kQ + ".weight"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr(".g_idx' puts input 1 into group 9, but there are 2 groups"));
}
TEST_F(DamagedGptq, GroupsOfAnotherLength) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".g_idx"].declared.shape = {96}; });
  EXPECT_THAT(open_error(), HasSubstr(".qweight' has shape [8, 64], expected [12, 64]"));
}
TEST_F(DamagedGptq, AScaleThatIsNoNumber) {
  write_sound();
  change_tensors([](Tensors&) {});  // all in one file
  test::overwrite_element(out_ / "model.safetensors", kQ + ".scales", 1,
                          std::numeric_limits<float>::quiet_NaN());
  const auto reader = open_artifact(out_);
  const Error error = error_of([&] { reader->load(kQ + ".weight"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr(".scales' holds nan at [0, 1]"));
}
TEST_F(DamagedGptq, AModuleStoredTwice) {
  write_sound();
  change_tensors([](Tensors& t) { t[kQ + ".weight"] = {{"", DType::kF16, {64, 64}}, {}}; });
  EXPECT_THAT(open_error(), HasSubstr("module '" + kQ + "' is stored twice"));
}
TEST_F(DamagedGptq, NoQuantizedTensorAtAll) {
  write_sound();
  change_tensors([](Tensors& t) {
    std::erase_if(t, [](const auto& entry) { return entry.first.ends_with(".qweight"); });
  });
  EXPECT_THAT(open_error(), HasSubstr("no tensor is named '*.qweight'"));
}
TEST_F(DamagedGptq, SettingsThatAreNoJson) {
  write_sound();
  change_settings([](Json& s) { s = nullptr; });
  io::write_file(out_ / "quantize_config.json", "{bits: 4");
  EXPECT_THAT(open_error(), AllOf(HasSubstr("quantize_config.json"), HasSubstr("no JSON object")));
}

// Files of other tools that deviate without being damaged.
class TolerantGptq : public DamagedGptq {
 protected:
  void expect_written() {
    const auto reader = open_artifact(out_);
    for (const auto& [name, q] : written_) testing::expect_same(*reader->quantized(name), q);
  }
};

TEST_F(TolerantGptq, TakesAMissingCheckpointFormatForV1) {
  write_sound(4, false, "gptq");
  change_settings([](Json& s) {
    s.erase("checkpoint_format");
    s.erase("format");
  });
  EXPECT_EQ(open_artifact(out_)->format(), "gptq");
  expect_written();
}
TEST_F(TolerantGptq, ReadsSettingsFromQuantizeConfigAlone) {
  write_sound(4, false);
  change_settings([](Json& s) { s = nullptr; });
  EXPECT_EQ(open_artifact(out_)->format(), "gptq_v2");
  expect_written();
}
TEST_F(TolerantGptq, NeedsNoMethodWhereTensorsShowIt) {
  write_sound();
  change_settings([](Json& s) {
    s.erase("method");
    s.erase("quant_method");
  });
  expect_written();
}
TEST_F(TolerantGptq, NeedsNoGroupIndex) {
  write_sound(3);
  change_tensors([](Tensors& t) {
    std::erase_if(t, [](const auto& entry) { return entry.first.ends_with(".g_idx"); });
  });
  expect_written();
}
TEST_F(TolerantGptq, TakesAGroupIndexOfZerosForUnset) {
  write_sound();
  change_tensors([](Tensors& t) {
    for (auto& [name, tensor] : t)
      if (name.ends_with(".g_idx"))
        std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{});
  });
  expect_written();
}
// Published files have v2 zero points under "gptq"; a symmetric file needs none.
TEST_F(TolerantGptq, IgnoresStoredZeroPointsOfASymmetricFile) {
  write_sound(4, true, "gptq");
  change_tensors([](Tensors& t) {
    for (auto& [name, tensor] : t)
      if (name.ends_with(".qzeros"))
        std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0x88});
  });
  expect_written();
}
TEST_F(TolerantGptq, FindsOutWhetherAFileWithoutTheKeyIsSymmetric) {
  write_sound();
  change_settings([](Json& s) { s.erase("sym"); });
  expect_written();
}

// Other containers.

// Takes apart the copy of a fixture, whose layer 0 has q_proj 256 x 256.
class DamagedFolder : public DamagedGptq {
 protected:
  void copy(const std::string& name) {
    fs::create_directory(out_);
    for (const char* file : {"config.json", "model.safetensors"})
      fs::copy_file(testing::fixture(name) / file, out_ / file);
  }
};
TEST_F(DamagedFolder, AwqWithShortScales) {
  copy("autoawq_w4g128_gemm");
  change_tensors([](Tensors& t) { t[kQ + ".scales"].declared.shape = {1, 256}; });
  EXPECT_THAT(open_error(), HasSubstr(".scales' has shape [1, 256], expected [2, 256]"));
}
TEST_F(DamagedFolder, AwqOfAnotherVersion) {
  copy("autoawq_w4g128_gemm");
  change_settings([](Json& s) { s["version"] = "gemv"; });
  EXPECT_THAT(open_error(), HasSubstr("AWQ version 'gemv' cannot be read"));
}
TEST_F(DamagedFolder, CompressedTensorsWithALyingShape) {
  copy("llmcompressor_w4g128_sym_ct");
  change_tensors([](Tensors& t) { t[kQ + ".weight_shape"].bytes[6] = std::byte{1}; });
  EXPECT_THAT(open_error(), AllOf(HasSubstr(".weight_shape' says [281474976710912, 256]"),
                                  HasSubstr("holds 256 rows of at most 256 codes")));
}
TEST_F(DamagedFolder, CompressedTensorsWithAShapeBeyondAllNumbersWhereModulesHaveTheirOwn) {
  copy("llmcompressor_w4g128_sym_ct");
  change_settings([](Json& s) {
    const Json group = s["config_groups"]["group_0"];
    s["config_groups"]["group_1"] = group;
  });
  change_tensors([](Tensors& t) {
    for (auto& [name, tensor] : t)
      if (name.ends_with("weight_shape")) tensor.bytes[15] = std::byte{0x3F};
  });
  EXPECT_THAT(open_error(), HasSubstr("match none of 2, 3, 4, 5, 6, 7, 8 bits"));
}
TEST_F(DamagedFolder, CompressedTensorsWithoutScales) {
  copy("llmcompressor_w4g128_sym_ct");
  change_tensors([](Tensors& t) { t.erase(kQ + ".weight_scale"); });
  EXPECT_THAT(open_error(), HasSubstr("its tensor '" + kQ + ".weight_scale' is missing"));
}
TEST_F(DamagedFolder, CompressedTensorsInAnotherFormat) {
  copy("llmcompressor_w4g128_sym_ct");
  change_settings([](Json& s) { s["format"] = "mxfp6-pack-quantized"; });
  EXPECT_THAT(open_error(), HasSubstr("format 'mxfp6-pack-quantized' cannot be read"));
}

// Asymmetric compressed-tensors, worked out by hand: outputs -8..-1 as zero points of 8 rows, one
// group, are the single word 76543210 (src/formats/README.md, "compressed-tensors").
TEST_F(DamagedFolder, CompressedTensorsZeroPointsRunAlongTheOutputs) {
  copy("llmcompressor_w4g128_sym_ct");
  change_settings([](Json& s) {
    Json& weights = s["config_groups"]["group_0"]["weights"];
    weights["symmetric"] = false;
    weights["group_size"] = -1;
  });
  change_tensors([](Tensors& t) {
    t.clear();
    const auto bytes_of = [](const auto& values) {
      const auto bytes = std::as_bytes(std::span(values));
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    };
    t["m.weight_shape"] = {{"", DType::kI64, {2}}, bytes_of(std::vector<std::int64_t>{8, 8})};
    t["m.weight_packed"] = {{"", DType::kI32, {8, 1}},
                            bytes_of(std::vector<std::uint32_t>(8, 0x76543210u))};
    t["m.weight_scale"] = {{"", DType::kF32, {8, 1}}, bytes_of(std::vector<float>(8, 0.5f))};
    t["m.weight_zero_point"] = {{"", DType::kI32, {1, 1}},
                                bytes_of(std::vector<std::uint32_t>{0x76543210u})};
  });
  const Matrix<float> values = open_artifact(out_)->load("m.weight");
  for (Index n = 0; n < 8; ++n)
    for (Index k = 0; k < 8; ++k)
      EXPECT_EQ(values(n, k), 0.5f * static_cast<float>(k - n)) << n << "," << k;
}

TEST(DamagedPath, NamesWhatIsNotThere) {
  const Error error = error_of([] { open_artifact("/no/such/artifact"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr("/no/such/artifact: no such file or folder"));
}
TEST(DamagedPath, AsksForTheFolderOfASafetensorsFile) {
  const Error error =
      error_of([] { open_artifact(testing::fixture("autoawq_w4g128_gemm/model.safetensors")); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr("give its folder instead"));
}

}  // namespace
}  // namespace calque::formats
