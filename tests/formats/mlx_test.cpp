// MLX folders. Expected bytes: mlx.core.quantize's (fixtures/artifacts/mlx_affine). Names: read in
// mlx-lm 0.32.2.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "calque/formats/format.h"
#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/quant/methods.h"
#include "formats/mlx_models.h"
#include "formats/packed_format.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;
using testing::write_random;

const PackedFormat& mlx() { return *format_named("mlx").packed; }

quant::Grid grid_of(int bits, Index group_size, ScalePrecision precision) {
  quant::Grid grid;
  grid.bits = bits;
  grid.group_size = group_size;
  grid.offset_kind = OffsetKind::kMinimum;
  grid.precision = precision;
  grid.mlx = true;
  return grid;
}

TEST(MlxLayout, RoundedToNearestWithMinMaxScalesItHasTheBytesOfMlxCoreQuantize) {
  const io::SafetensorsFile file(testing::fixture("mlx_affine") / "quantized.safetensors");
  const std::pair<std::string, ScalePrecision> types[] = {{"bf16", ScalePrecision::kBF16},
                                                          {"f16", ScalePrecision::kF16},
                                                          {"f32", ScalePrecision::kF32}};
  for (const auto& [type, precision] : types)
    for (const int bits : {2, 3, 4, 5, 6, 8})
      for (const Index group_size : {32, 64, 128}) {
        const quant::Rounder rounder = quant::make_rtn({.scale_rule = ScaleRule::kMinMax});
        const quant::Rounded rounded = rounder({}, open_exec("cpu"))(
            io::to_matrix(*file.find(type)), grid_of(bits, group_size, precision));
        for (const NamedBytes& part : mlx().pack("m", rounded.matrix, {})) {
          const io::TensorRef& expected =
              *file.find(type + "." + std::to_string(bits) + "." + std::to_string(group_size) +
                         part.name.substr(1));
          ASSERT_EQ(part.bytes.size(), expected.bytes.size()) << expected.name;
          EXPECT_EQ(std::memcmp(part.bytes.data(), expected.bytes.data(), part.bytes.size()), 0)
              << expected.name;
        }
      }
}

// Code i of a row occupies bits [3 i, 3 i + 3) of its stream.
TEST(MlxLayout, CodesOfThreeBitsAreAStreamThatCrossesWords) {
  quant::QuantizedMatrix q;
  q.grid = grid_of(3, 32, ScalePrecision::kF32);
  q.groups().codes_NK = Matrix<std::uint8_t>(1, 32);
  for (Index k = 0; k < 32; ++k) q.groups().codes_NK(0, k) = k == 10 ? 7 : 0;
  q.groups().scales_NG = Matrix<float>(1, 1);
  q.groups().offsets_NG = Matrix<float>(1, 1);
  const std::vector<NamedBytes> parts = mlx().pack("m", q, {});
  std::uint32_t words[3];
  ASSERT_EQ(parts[0].bytes.size(), sizeof(words));
  std::memcpy(words, parts[0].bytes.data(), sizeof(words));
  EXPECT_EQ(words[0], 0xc0000000u);
  EXPECT_EQ(words[1], 0x1u);
  EXPECT_EQ(words[2], 0u);
}

ExportRequest request_of(const std::filesystem::path& path) {
  ExportRequest request;
  request.format = "mlx";
  request.path = path;
  return request;
}

QuantizationRequest settings(int bits = 4, Index group_size = 32,
                             std::vector<ModuleRule> rules = {}) {
  return {.bits = bits, .group_size = group_size, .rules = std::move(rules)};
}

class MlxFolder : public ::testing::Test {
 protected:
  io::Json config() const { return io::parse_json(io::read_file(folder_ / "out/config.json")); }
  TempFolder folder_;
};

TEST_F(MlxFolder, IsReadBackAsItWasWritten) {
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32})
    for (const int bits : {2, 3, 4, 5, 6, 8}) {
      const TinyModel model(folder_ / "Tiny", {.dtype = dtype});
      ExportRequest request = request_of(folder_ / "out");
      request.overwrite = true;
      const ExportPlan plan = model.plan(request, settings(bits));
      const auto written = write_random(plan, model.inputs());
      const auto reader = open_artifact(folder_ / "out");
      EXPECT_EQ(reader->format(), "mlx");
      for (const auto& [name, q] : written) testing::expect_same(*reader->quantized(name), q);
    }
}

TEST_F(MlxFolder, RoundsTheEmbeddingAndTheHeadUnlessARuleSkipsThem) {
  const TinyModel model(folder_ / "Tiny", {});
  ExportPlan plan = model.plan(request_of(folder_ / "out"), settings());
  EXPECT_TRUE(plan.at("model.embed_tokens.weight").grid);
  EXPECT_TRUE(plan.at("lm_head.weight").grid);
  plan = model.plan(request_of(folder_ / "out"),
                    settings(4, 32,
                             {{.match = "lm_head", .skip = true},
                              {.match = "model.embed_tokens", .skip = true}}));
  EXPECT_FALSE(plan.at("model.embed_tokens.weight").grid);
  EXPECT_FALSE(plan.at("lm_head.weight").grid);
}

TEST_F(MlxFolder, SaysTheSameUnderBothKeysAndNamesModulesThatDiffer) {
  const TinyModel model(folder_ / "Tiny", {});
  const ExportPlan plan =
      model.plan(request_of(folder_ / "out"),
                 settings(4, 32,
                          {{.match = "*.layers.1.mlp.down_proj", .bits = 6},
                           {.match = "*.layers.0.self_attn.o_proj", .skip = true}}));
  write_random(plan, model.inputs());
  const io::Json expected = {
      {"group_size", 32},
      {"bits", 4},
      {"mode", "affine"},
      {"model.layers.0.self_attn.o_proj", false},
      {"model.layers.1.mlp.down_proj", {{"group_size", 32}, {"bits", 6}, {"mode", "affine"}}}};
  EXPECT_EQ(config().at("quantization"), expected);
  EXPECT_EQ(config().at("quantization_config"), expected);
  EXPECT_EQ(
      open_artifact(folder_ / "out")->quantized("model.layers.1.mlp.down_proj.weight")->grid.bits,
      6);
}

// Earlier releases of mlx-lm wrote `quantization` alone.
TEST_F(MlxFolder, IsReadWithoutQuantizationConfig) {
  const TinyModel model(folder_ / "Tiny", {});
  write_random(model.plan(request_of(folder_ / "out"), settings(3)), model.inputs());
  io::Json json = config();
  json.erase("quantization_config");
  io::write_file(folder_ / "out/config.json", json.dump(2));
  EXPECT_EQ(open_artifact(folder_ / "out")->format(), "mlx");
}

TEST_F(MlxFolder, OfAnotherModeIsRefused) {
  const TinyModel model(folder_ / "Tiny", {});
  write_random(model.plan(request_of(folder_ / "out"), settings()), model.inputs());
  io::Json json = config();
  json["quantization_config"]["mode"] = "mxfp4";
  io::write_file(folder_ / "out/config.json", json.dump(2));
  const Error error = error_of([&] { open_artifact(folder_ / "out"); });
  EXPECT_EQ(error.code(), "E174");
  EXPECT_THAT(error.what(), HasSubstr("mode 'mxfp4' cannot be read; calque reads 'affine'"));
}

TEST_F(MlxFolder, HasGroupsThatMlxKnows) {
  const TinyModel model(folder_ / "Tiny", {});
  for (const Index group_size : {16, -1}) {
    const Error error =
        error_of([&] { model.plan(request_of(folder_ / "out"), settings(4, group_size)); });
    EXPECT_EQ(error.code(), "E131");
    EXPECT_THAT(error.what(), HasSubstr("MLX has groups of 32, 64, 128. Sizes that fit every "
                                        "module: 32."));
  }
}

TEST_F(MlxFolder, IsNoMatterOfVllm) {
  const TinyModel model(folder_ / "Tiny", {});
  ExportRequest request = request_of(folder_ / "out");
  request.require.vllm = true;
  EXPECT_EQ(error_of([&] { model.plan(request, settings()); }).code(), "E145");
}

TEST(MlxNames, AreThoseOfMlxLmsModules) {
  EXPECT_EQ(mlx_path("model.layers.0.mlp.up_proj", false), "model.layers.0.mlp.up_proj");
  EXPECT_EQ(mlx_path("model.layers.0.mlp.experts.3.up_proj", false),
            "model.layers.0.mlp.switch_mlp.up_proj");
  EXPECT_EQ(mlx_path("model.layers.0.block_sparse_moe.experts.0.w2", false),
            "model.layers.0.block_sparse_moe.switch_mlp.down_proj");
  EXPECT_EQ(mlx_path("model.language_model.layers.0.mlp.up_proj", true),
            "language_model.model.layers.0.mlp.up_proj");
  EXPECT_EQ(mlx_path("lm_head", true), "language_model.lm_head");
}

io::Json completed(const std::string& keys) {
  io::Json config = io::parse_json(keys);
  add_mlx_keys({.head_dim = 32}, config);
  return config;
}

TEST(MlxConfig, HasTheKeysThatMlxLmReadsWhereTransformersWritesRopeParameters) {
  const io::Json plain =
      completed(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 5}})");
  EXPECT_EQ(plain.at("rope_theta"), io::Json(5));
  EXPECT_TRUE(plain.at("rope_scaling").is_null());
  EXPECT_EQ(plain.at("head_dim"), io::Json(32));
  const io::Json linear =
      completed(R"({"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5}})");
  EXPECT_EQ(linear.at("rope_scaling").at("factor"), io::Json(2));
  EXPECT_EQ(linear.at("rope_scaling").at("type"), io::Json("linear"));
  const io::Json both = completed(R"({"text_config": {"rope_parameters": {
      "full_attention": {"rope_theta": 7}, "sliding_attention": {"rope_theta": 5}}}})");
  EXPECT_EQ(both.at("text_config").at("rope_theta"), io::Json(7));
  EXPECT_EQ(both.at("text_config").at("rope_local_base_freq"), io::Json(5));
}
TEST(MlxConfig, KeepsTheKeysThatAreThere) {
  const io::Json config =
      completed(R"({"rope_theta": 3, "rope_scaling": {"factor": 4}, "head_dim": 8,
      "rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5}})");
  EXPECT_EQ(config.at("rope_theta"), io::Json(3));
  EXPECT_EQ(config.at("rope_scaling").at("factor"), io::Json(4));
  EXPECT_EQ(config.at("head_dim"), io::Json(8));
}

model::FamilySpec experts(const std::string& architecture) {
  return model::family_of(model::parse_config(
      R"({"architectures": [")" + architecture + R"("], "hidden_act": "silu", "hidden_size": 64,
          "num_hidden_layers": 2, "intermediate_size": 64, "moe_intermediate_size": 64,
          "shared_expert_intermediate_size": 64, "num_attention_heads": 2, "head_dim": 32,
          "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 64,
          "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1,
          "norm_topk_prob": true, "decoder_sparse_step": 1,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0})",
      "sizes"));
}

std::string refusal(const model::FamilySpec& family, std::vector<ModuleRule> rules) {
  Refusals refusals;
  const SettingsOfModule modules =
      resolve_rules(family, settings(4, 32, std::move(rules)), true, refusals);
  check_mlx_models(family.config, modules, refusals);
  if (refusals.empty()) return "";
  return error_of([&] { refusals.throw_if_any(); }).what();
}

TEST(MlxModels, ExpertsAreRoundedWhereMlxLmStacksTheirScales) {
  EXPECT_EQ(refusal(experts("MixtralForCausalLM"), {}), "");
  EXPECT_THAT(refusal(experts("Qwen3MoeForCausalLM"), {}),
              HasSubstr("mlx-lm loads the experts of Qwen3MoeForCausalLM only as they were "
                        "published, but 12 of their matrices would be rounded"));
  EXPECT_EQ(refusal(experts("Qwen3MoeForCausalLM"), {{.match = "*.experts.*", .skip = true}}), "");
}

TEST(MlxModels, ExpertsOfALayerHaveOneSetting) {
  EXPECT_THAT(
      refusal(experts("MixtralForCausalLM"), {{.match = "*.layers.1.*.experts.1.w2", .bits = 6}}),
      HasSubstr("mlx-lm stacks the experts of a layer"));
  EXPECT_EQ(refusal(experts("MixtralForCausalLM"), {{.match = "*.layers.1.*.w2", .bits = 6}}), "");
}

}  // namespace
}  // namespace calque::formats
