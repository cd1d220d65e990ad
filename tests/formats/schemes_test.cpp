// Schemes of compressed-tensors: FP8, 8-bit integers, and rounded inputs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "calque/formats/format.h"
#include "calque/formats/scheme.h"
#include "calque/io/file.h"
#include "formats/packed_format.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using nlohmann::json;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

// The model of the golden folders (compressed_tensors_floats/models.json).
TinyModel::Options golden_sizes() {
  return {.hidden = 128, .intermediate = 256, .heads = 4, .kv_heads = 2, .layers = 1, .vocab = 64};
}

ExportRequest request_of(const std::string& scheme, const std::filesystem::path& path = "unused") {
  ExportRequest request;
  request.format = "compressed-tensors";
  request.path = path;
  request.scheme = scheme;
  return request;
}

json golden_models() {
  return json::parse(io::read_file(testing::fixture("compressed_tensors_floats") / "models.json"));
}

struct Golden {
  std::string scheme;
  std::string stored_as;
};
void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.scheme; }

class GoldenSchemes : public ::testing::TestWithParam<Golden> {
 protected:
  GoldenSchemes() : model_(folder_ / "Tiny", golden_sizes()) {}
  TempFolder folder_;
  TinyModel model_;
  ExportPlan plan_ = model_.plan(request_of(GetParam().scheme, folder_ / "out"));
};
INSTANTIATE_TEST_SUITE_P(
    CompressedTensors, GoldenSchemes,
    ::testing::Values(Golden{"FP8_DYNAMIC", "compressed-tensors FP8 per row, inputs FP8 a token"},
                      Golden{"FP8", "compressed-tensors FP8 per matrix, inputs FP8, calibrated"},
                      Golden{"FP8_BLOCK",
                             "compressed-tensors FP8 128x128, inputs FP8 a token and 128 channels"},
                      Golden{"NVFP4", "compressed-tensors FP4 g16, inputs NVFP4, calibrated"},
                      Golden{"NVFP4A16", "compressed-tensors FP4 g16"},
                      Golden{"MXFP4", "compressed-tensors FP4 g32, inputs MXFP4"},
                      Golden{"MXFP4A16", "compressed-tensors FP4 g32"},
                      Golden{"MXFP8", "compressed-tensors FP8 g32, inputs MXFP8"},
                      Golden{"MXFP8A16", "compressed-tensors FP8 g32"},
                      Golden{"W8A8", "compressed-tensors 8 bit per row sym, inputs INT8 a token"},
                      Golden{"W4A8", "compressed-tensors 4 bit g128 sym, inputs INT8 a token"},
                      Golden{"W4AFP8", "compressed-tensors 4 bit g128 sym, inputs FP8 a token"}),
    [](const auto& tested) { return tested.param.scheme; });

TEST_P(GoldenSchemes, HaveThePackagesConfigAndTensors) {
  write_random(plan_, model_.inputs());
  const json golden = golden_models().at(GetParam().scheme);
  const json config = json::parse(io::read_file(folder_ / "out" / "config.json"));
  EXPECT_EQ(config.at("quantization_config"), golden.at("quantization_config"));
  const std::map<std::string, std::string> dtypes = {
      {"bfloat16", "BF16"}, {"float8_e4m3fn", "F8_E4M3"},
      {"float32", "F32"},   {"uint8", "U8"},
      {"int8", "I8"},       {"int32", "I32"},
      {"int64", "I64"}};
  std::map<std::string, std::pair<std::string, std::vector<Index>>> expected, stored;
  for (const auto& [name, tensor] : golden.at("tensors").items())
    expected[name] = {dtypes.at(tensor[0]), tensor[1].get<std::vector<Index>>()};
  const io::SafetensorsCheckpoint out(folder_ / "out");
  for (const io::TensorRef& tensor : out.tensors())
    if (tensor.name.find("_proj.") != std::string::npos)
      stored[tensor.name] = {std::string(name_of(tensor.dtype)), tensor.shape};
  EXPECT_EQ(stored, expected);
}

// compressed-tensors 0.20.1's preset MXFP4XFP8.
TEST(MxSchemes, Mxfp4WithFp8InputsHasThePackagesArguments) {
  const TempFolder folder;
  const TinyModel model(folder / "Tiny", golden_sizes());
  write_random(model.plan(request_of("MXFP4XFP8", folder / "out")), model.inputs());
  const json config = json::parse(io::read_file(folder / "out" / "config.json"));
  const json group = config.at("quantization_config").at("config_groups").at("group_0");
  EXPECT_EQ(group.at("format"), "mxfp4-pack-quantized");
  EXPECT_EQ(group.at("weights"), json::parse(R"({"num_bits": 4, "type": "float", "symmetric": true,
      "group_size": 32, "strategy": "group", "dynamic": false, "scale_dtype": "torch.uint8"})"));
  EXPECT_EQ(group.at("input_activations"),
            json::parse(R"({"num_bits": 8, "type": "float", "symmetric": true, "group_size": 128,
      "strategy": "group", "dynamic": true})"));
}

TEST_P(GoldenSchemes, GiveBackEveryBit) {
  const auto written = write_random(plan_, model_.inputs());
  const auto reader = open_artifact(folder_ / "out");
  const InputGrids inputs = reader->inputs();
  std::map<std::string, std::string> stored_as;
  for (const StoredTensor& tensor : reader->tensors()) stored_as[tensor.name] = tensor.stored_as;
  ASSERT_EQ(written.size(), 7u);
  for (const auto& [name, q] : written) {
    SCOPED_TRACE(name);
    const auto read = reader->quantized(name);
    ASSERT_TRUE(read.has_value());
    testing::expect_same(*read, q);
    EXPECT_EQ(read->grid.number, q.grid.number);
    EXPECT_EQ(read->grid.scale_rows, q.grid.scale_rows);
    EXPECT_EQ(read->grid.coded_scales(), q.grid.coded_scales());
    EXPECT_EQ(testing::sha256_of(reader->load(name)), testing::sha256_of(quant::dequantize(q)));
    EXPECT_EQ(stored_as.at(name), GetParam().stored_as);
    if (!plan_.at(name).inputs) {
      EXPECT_FALSE(inputs.contains(name));
      continue;
    }
    InputGrid grid = *plan_.at(name).inputs;
    if (grid.scale_of == InputGrid::Scale::kCoded) grid.scale = 256 * 6 / testing::kInputPeak;
    if (grid.scale_of == InputGrid::Scale::kTensor)
      grid.scale = rounded_to_bfloat16(testing::kInputPeak / 448);
    EXPECT_EQ(inputs.at(name), grid);
  }
  EXPECT_EQ(io::SafetensorsCheckpoint(folder_ / "out").total_bytes(), plan_.tensor_bytes);
}

// Matrices that the package rounded, read and packed again.
TEST(GoldenFloats, DecodeAndPackAsThePackageDoes) {
  for (const std::string scheme : {"FP8_DYNAMIC", "FP8", "FP8_BLOCK"}) {
    SCOPED_TRACE(scheme);
    const TempFolder folder;
    io::copy_file(testing::fixture("compressed_tensors_floats") / (scheme + ".safetensors"),
                  folder / "model.safetensors");
    const io::SafetensorsCheckpoint checkpoint(folder.path());
    const Scheme& row = *find_scheme(scheme);
    const Format& format = format_named("compressed-tensors");
    const PackedSettings settings{.format = &format,
                                  .where = "test",
                                  .bits = 8,
                                  .group_size = row.group_size,
                                  .number = row.number,
                                  .scale_rows = row.scale_rows};
    const quant::QuantizedMatrix q = format.packed->open(checkpoint, "m", settings).unpack();
    const io::TensorRef& codes = *checkpoint.find("m.weight");
    const Matrix<float> values = quant::dequantize(q);
    const auto* scales =
        reinterpret_cast<const float*>(checkpoint.find("m.weight_scale")->bytes.data());
    const Index rows = q.grid.scale_rows_for(values.rows());
    const Index columns = q.grid.group_size_for(values.cols());
    for (Index n = 0; n < values.rows(); ++n)
      for (Index k = 0; k < values.cols(); ++k) {
        const auto code =
            static_cast<std::size_t>(codes.bytes[static_cast<std::size_t>(n * values.cols() + k)]);
        const float scale = scales[n / rows * (values.cols() / columns) + k / columns];
        ASSERT_EQ(values(n, k), scale * values_of(SmallFloat::kE4M3)[code]);
      }
  }
}

class Schemes : public ::testing::Test {
 protected:
  Error refusal(const ExportRequest& request, const QuantizationRequest& quantization = {}) {
    return error_of([&] { model_.plan(request, quantization); });
  }
  TempFolder folder_;
  TinyModel model_{folder_ / "Tiny", golden_sizes()};
};

TEST_F(Schemes, AreKnownByTheirNames) {
  const Error error = refusal(request_of("FP8_DYNAMIK"));
  EXPECT_EQ(error.code(), "E122");
  EXPECT_THAT(error.what(), HasSubstr("did you mean 'FP8_DYNAMIC'"));
  EXPECT_EQ(find_scheme("INT8"), find_scheme("W8A8"));
}

TEST_F(Schemes, OfIntegersAreBitsAndGroups) {
  QuantizationRequest pieces;
  pieces.bits = 3;
  const ExportPlan named = model_.plan(request_of("W3A16"));
  const ExportPlan said = model_.plan(request_of(""), pieces);
  ASSERT_EQ(named.tensors.size(), said.tensors.size());
  for (std::size_t i = 0; i < named.tensors.size(); ++i) {
    EXPECT_EQ(named.tensors[i].grid, said.tensors[i].grid);
    EXPECT_EQ(named.tensors[i].stored_as, said.tensors[i].stored_as);
  }
}

// The package's matrix, read: two codes a byte, and scales as they are.
TEST(GoldenFloats, ReadTwoCodesAByte) {
  for (const std::string scheme : {"NVFP4", "MXFP4"}) {
    SCOPED_TRACE(scheme);
    const TempFolder folder;
    io::copy_file(testing::fixture("compressed_tensors_floats") / (scheme + ".safetensors"),
                  folder / "model.safetensors");
    const io::SafetensorsCheckpoint checkpoint(folder.path());
    const Scheme& row = *find_scheme(scheme);
    const Format& format = format_named("compressed-tensors");
    const PackedSettings settings{.format = &format,
                                  .where = "test",
                                  .bits = 4,
                                  .group_size = row.group_size,
                                  .number = row.number,
                                  .coded_scales = row.coded_scales};
    const quant::QuantizedMatrix q = format.packed->open(checkpoint, "m", settings).unpack();
    const std::vector<NamedBytes> packed = format.packed->pack("m", q, {});
    for (const NamedBytes& part : packed) {
      const io::TensorRef& golden = *checkpoint.find(part.name);
      EXPECT_TRUE(std::ranges::equal(part.bytes, golden.bytes)) << part.name;
    }
    EXPECT_EQ(packed.size(), row.coded_scales == ScalePrecision::kE4M3 ? 3u : 2u);
  }
}

TEST_F(Schemes, WithDivisorsThatAreNoNumbersAreDamaged) {
  const ExportPlan plan = model_.plan(request_of("NVFP4A16", folder_ / "out"));
  write_random(plan, model_.inputs());
  const std::filesystem::path file = folder_ / "out" / "model.safetensors";
  std::string bytes = io::read_file(file);
  const io::SafetensorsCheckpoint out(folder_ / "out");
  const io::TensorRef& divisor = *out.find("model.layers.0.mlp.up_proj.weight_global_scale");
  const float given = 1500, zero = 0;
  const std::string searched(reinterpret_cast<const char*>(&given), sizeof(given));
  ASSERT_EQ(std::memcmp(divisor.bytes.data(), searched.data(), sizeof(given)), 0);
  for (std::size_t at = bytes.find(searched); at != std::string::npos;
       at = bytes.find(searched, at + 1))
    bytes.replace(at, sizeof(zero), std::string(sizeof(zero), '\0'));
  std::filesystem::create_directory(folder_ / "damaged");
  io::write_file(folder_ / "damaged" / "model.safetensors", bytes);
  io::copy_file(folder_ / "out" / "config.json", folder_ / "damaged" / "config.json");
  const auto reader = open_artifact(folder_ / "damaged");
  const Error error = error_of([&] { reader->quantized("model.layers.0.mlp.up_proj.weight"); });
  EXPECT_EQ(error.code(), "E174");
  EXPECT_THAT(error.what(), HasSubstr("weight_global_scale' holds 0"));
}

TEST_F(Schemes, ContradictOtherActivations) {
  ExportRequest request = request_of("FP8_DYNAMIC");
  request.activations = "int8_token";
  const Error error = refusal(request);
  EXPECT_EQ(error.code(), "E133");
  EXPECT_THAT(error.what(), HasSubstr("scheme FP8_DYNAMIC has activations: fp8_token, but the "
                                      "export says activations: int8_token"));
}

TEST_F(Schemes, TakeNoBitsFromRules) {
  QuantizationRequest quantization;
  quantization.rules.emplace_back().match = "*.down_proj";
  quantization.rules.back().bits = 4;
  EXPECT_EQ(refusal(request_of("FP8"), quantization).code(), "E153");
}

TEST_F(Schemes, ActivationsAloneRoundTheInputsOfIntegers) {
  ExportRequest request = request_of("");
  request.activations = "int8_token";
  const ExportPlan plan = model_.plan(request);
  EXPECT_EQ(scheme_of(plan.at("model.layers.0.mlp.up_proj.weight"))->name, "W4A8");
  request.activations = "fp8_tensor";
  EXPECT_EQ(refusal(request).code(), "E133");
}

TEST_F(Schemes, TellWhichMachinesTheyRunOn) {
  const auto says = [&](const std::string& scheme, const std::string& text) {
    EXPECT_THAT(runtime_limit(model_.plan(request_of(scheme))), HasSubstr(text)) << scheme;
  };
  says("FP8", "Ada and Hopper");
  says("W4AFP8", "NVIDIA Hopper alone");
  says("W8A8", "Turing");
  says("NVFP4", "Blackwell");
  says("MXFP4A16", "Ampere");
  EXPECT_EQ(runtime_limit(model_.plan(request_of("W4A16"))), "");
}

// Kernels of 8-bit products take multiples of 16; Marlin, for integers, would need 64.
TEST(SchemeRequirements, KnowTheKernelsOfEightBits) {
  const TempFolder folder;
  TinyModel::Options sizes = golden_sizes();
  sizes.hidden = 96;
  sizes.heads = 2;
  sizes.kv_heads = 1;
  sizes.intermediate = 80;
  const TinyModel model(folder / "Tiny", sizes);
  ExportRequest request = request_of("FP8_DYNAMIC");
  request.require.vllm = true;
  EXPECT_NO_THROW(model.plan(request));
  request.scheme = "FP8_BLOCK";
  const Error error = error_of([&] { model.plan(request); });
  EXPECT_EQ(error.code(), "E131");
}

}  // namespace
}  // namespace calque::formats
