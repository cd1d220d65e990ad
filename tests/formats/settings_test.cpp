// quantization_config of every kind of folder, as loaders read it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/formats/source.h"
#include "calque/io/json.h"
#include "formats/packed_format.h"
#include "formats/support.h"
#include "support/paths.h"

namespace calque::formats {
namespace {

using io::Json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr ModuleSettings kUsual{4, 128, true};
constexpr ModuleSettings kEight{8, 128, true};
constexpr ModuleSettings kRow{4, -1, false};

// Attention and MLP of three layers, all of the usual settings, and a head that is left alone.
class Settings : public ::testing::Test {
 protected:
  Settings() {
    for (int layer = 0; layer < 3; ++layer)
      for (const char* role : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                               "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
        contents_.modules.push_back({name(layer, role), kUsual});
    contents_.modules.push_back({"lm_head", std::nullopt});
    contents_.usual = kUsual;
    contents_.checkpoint_format = "gptq";
  }
  static std::string name(int layer, const std::string& role) {
    return "model.layers." + std::to_string(layer) + "." + role;
  }
  void set(const std::string& module, std::optional<ModuleSettings> settings) {
    for (auto& each : contents_.modules)
      if (each.name == module) each.settings = settings;
    contents_.lm_head = contents_.modules.back().settings.has_value();
  }
  // In all layers.
  void set_role(const std::string& role, std::optional<ModuleSettings> settings) {
    for (int layer = 0; layer < 3; ++layer) set(name(layer, role), settings);
  }
  void add_experts() {
    contents_.modules.pop_back();
    for (int expert = 0; expert < 2; ++expert)
      for (const char* role : {"gate_proj", "up_proj", "down_proj"})
        contents_.modules.push_back(
            {name(3, "mlp.experts." + std::to_string(expert) + "." + role), kUsual});
    contents_.modules.push_back({name(3, "mlp.gate"), std::nullopt});
    contents_.modules.push_back({name(3, "mlp.shared_expert_gate"), std::nullopt});
    contents_.modules.push_back({"lm_head", std::nullopt});
  }
  Json gptq() const { return config("gptq", contents_); }
  Json awq() const { return config("awq", contents_); }
  Json ct() const { return config("compressed-tensors", contents_); }
  static Json config(const char* format, const FolderContents& contents) {
    return io::parse_json(format_named(format)
                              .packed->write_config(contents, {"calque:0", "Tiny", "rtn", "rtn"})
                              .dump());
  }

  FolderContents contents_;
};

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.members()) keys.push_back(key);
  return keys;
}

std::vector<std::string> strings_of(const Json& list) {
  return list.get<std::vector<std::string>>();
}

TEST_F(Settings, OfGptqNeedNoRulesWhereAllModulesAreAlike) {
  EXPECT_FALSE(gptq().contains("dynamic"));
  EXPECT_FALSE(gptq().contains("modules_in_block_to_quantize"));
  EXPECT_EQ(gptq().at("lm_head"), false);
}

TEST_F(Settings, OfGptqMeanV1BySymmetricAndV2ByAsymmetricAuto) {
  const auto format = [&](bool all_sym, const char* requested) {
    contents_.all_sym = all_sym;
    contents_.checkpoint_format = requested;
    return gptq().at("checkpoint_format").get<std::string>();
  };
  EXPECT_EQ(format(true, "auto"), "gptq");
  EXPECT_EQ(format(false, "auto"), "gptq_v2");
  EXPECT_EQ(format(false, "gptq"), "gptq");
  EXPECT_EQ(format(true, "gptq_v2"), "gptq_v2");
}

TEST_F(Settings, OfGptqNameFusedModulesToo) {
  for (const char* role : {"q_proj", "k_proj", "v_proj"})
    set_role(std::string("self_attn.") + role, kEight);
  const Json dynamic = gptq().at("dynamic");
  EXPECT_THAT(keys_of(dynamic),
              ElementsAre(R"(+:model\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj|qkv_proj)$)"));
  EXPECT_EQ(dynamic.members().front().value.dump(), R"({"bits":8,"group_size":128,"sym":true})");
}

TEST_F(Settings, OfGptqLeaveOutFusedModulesWhosePartsDisagree) {
  set_role("self_attn.q_proj", kEight);
  EXPECT_THAT(keys_of(gptq().at("dynamic")),
              ElementsAre(R"(+:model\.layers\.\d+\.self_attn\.q_proj$)"));
}

TEST_F(Settings, OfGptqPutSkippedModulesFirst) {
  set_role("mlp.down_proj", kEight);
  set(name(1, "self_attn.o_proj"), std::nullopt);
  EXPECT_THAT(keys_of(gptq().at("dynamic")),
              ElementsAre(R"(-:model\.layers\.1\.self_attn\.o_proj$)",
                          R"(+:model\.layers\.\d+\.mlp\.down_proj$)"));
  EXPECT_FALSE(gptq().contains("modules_in_block_to_quantize"));
}

TEST_F(Settings, OfGptqListWhatIsQuantizedWhereARoleNeverIs) {
  set_role("mlp.down_proj", std::nullopt);
  EXPECT_EQ(gptq().at("modules_in_block_to_quantize").dump(),
            R"([["self_attn.q_proj","self_attn.k_proj","self_attn.v_proj","self_attn.o_proj",)"
            R"("mlp.gate_proj","mlp.up_proj"]])");
}

TEST_F(Settings, OfGptqSpeakOfTheHeadOnlyIfItIsQuantized) {
  set("lm_head", kEight);
  EXPECT_EQ(gptq().at("lm_head"), true);
  EXPECT_THAT(keys_of(gptq().at("dynamic")), ElementsAre("+:lm_head$"));
}

TEST_F(Settings, OfGptqLeaveRoutersAlone) {
  add_experts();
  EXPECT_THAT(keys_of(gptq().at("dynamic")),
              ElementsAre(R"(-:model\.layers\.\d+\.mlp\.(gate|shared_expert_gate)$)"));
  EXPECT_EQ(gptq().at("modules_in_block_to_quantize").at(0).size(), 7u + 6u);
}

TEST_F(Settings, OfGptqNameAllExpertsTogether) {
  add_experts();
  for (int expert = 0; expert < 2; ++expert)
    for (const char* role : {"gate_proj", "up_proj", "down_proj"})
      set(name(3, "mlp.experts." + std::to_string(expert) + "." + role), kEight);
  EXPECT_THAT(
      keys_of(gptq().at("dynamic")),
      ElementsAre(R"(-:model\.layers\.\d+\.mlp\.(gate|shared_expert_gate)$)",
                  R"(+:model\.layers\.\d+\.mlp\.experts\.\d+\.(gate_proj|up_proj|down_proj)$)",
                  R"(+:model\.layers\.\d+\.mlp\.experts$)"));
}

TEST_F(Settings, OfAwqListFullPaths) {
  EXPECT_EQ(awq().dump(), R"({"quant_method":"awq","bits":4,"group_size":128,"zero_point":true,)"
                          R"("version":"gemm","modules_to_not_convert":["lm_head"]})");
  add_experts();
  set(name(1, "mlp.up_proj"), std::nullopt);
  EXPECT_THAT(strings_of(awq().at("modules_to_not_convert")),
              ElementsAre("model.layers.1.mlp.up_proj", "model.layers.3.mlp.gate",
                          "model.layers.3.mlp.shared_expert_gate", "lm_head"));
}

// No path in the list is part of a quantized module's path: loaders would skip that module.
TEST_F(Settings, OfAwqHitNothingElse) {
  add_experts();
  set(name(1, "mlp.gate_proj"), std::nullopt);
  for (const std::string& listed : strings_of(awq().at("modules_to_not_convert")))
    for (const auto& module : contents_.modules)
      EXPECT_FALSE(module.settings && module.name.find(listed) != std::string::npos)
          << listed << " hits " << module.name;
}

TEST_F(Settings, OfAwqDoNotListAQuantizedHead) {
  set("lm_head", kUsual);
  EXPECT_THAT(strings_of(awq().at("modules_to_not_convert")), IsEmpty());
  EXPECT_EQ(awq().at("lm_head"), true);
}

// The keys are those of the format and no others: readers refuse unknown ones.
TEST_F(Settings, OfCompressedTensorsHaveTheKeysOfTheFormat) {
  EXPECT_EQ(ct().dump(),
            R"({"quant_method":"compressed-tensors","format":"pack-quantized",)"
            R"("quantization_status":"compressed","global_compression_ratio":null,)"
            R"("kv_cache_scheme":null,"config_groups":{"group_0":{"targets":["Linear"],)"
            R"("weights":{"num_bits":4,"type":"int","symmetric":true,"strategy":"group",)"
            R"("group_size":128,"dynamic":false,"actorder":null,"observer":"minmax",)"
            R"("observer_kwargs":{},"block_structure":null},"input_activations":null,)"
            R"("output_activations":null}},"ignore":["lm_head"],"version":"0.9.4"})");
}

TEST_F(Settings, OfCompressedTensorsHaveAGroupForEverySetting) {
  set_role("mlp.down_proj", kEight);
  set(name(2, "self_attn.o_proj"), kRow);
  const Json groups = ct().at("config_groups");
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_THAT(strings_of(groups.at("group_0").at("targets")),
              ElementsAre(R"(re:model\.layers\.\d+\.self_attn\.(q_proj|k_proj|v_proj)$)",
                          R"(re:model\.layers\.(0|1)\.self_attn\.o_proj$)",
                          R"(re:model\.layers\.\d+\.mlp\.(gate_proj|up_proj)$)"));
  EXPECT_THAT(strings_of(groups.at("group_1").at("targets")),
              ElementsAre(R"(re:model\.layers\.\d+\.mlp\.down_proj$)"));
  EXPECT_EQ(groups.at("group_1").at("weights").at("num_bits"), 8);
  EXPECT_THAT(strings_of(groups.at("group_2").at("targets")),
              ElementsAre(R"(re:model\.layers\.2\.self_attn\.o_proj$)"));
  const Json row = groups.at("group_2").at("weights");
  EXPECT_EQ(row.at("strategy"), "channel");
  EXPECT_TRUE(row.at("group_size").is_null());
  EXPECT_EQ(row.at("symmetric"), false);
}

TEST_F(Settings, OfCompressedTensorsIgnoreEveryLinearLeftAlone) {
  add_experts();
  set_role("self_attn.o_proj", std::nullopt);
  EXPECT_THAT(strings_of(ct().at("ignore")),
              ElementsAre(R"(re:model\.layers\.\d+\.self_attn\.o_proj$)",
                          R"(re:model\.layers\.\d+\.mlp\.(gate|shared_expert_gate)$)", "lm_head"));
}

TEST_F(Settings, OfCompressedTensorsTargetAQuantizedHeadByName) {
  set("lm_head", kUsual);
  EXPECT_THAT(strings_of(ct().at("config_groups").at("group_0").at("targets")),
              ElementsAre("Linear", "lm_head"));
  EXPECT_THAT(strings_of(ct().at("ignore")), IsEmpty());
}

// It lies outside the blocks; a loader would look for its codes.
TEST(FolderContents, HaveTheProjectionOfLayerEmbeddings) {
  const OpenedModel opened =
      open_model(std::filesystem::path(test::fixtures()) / "families/gemma4_e");
  const model::FamilySpec family = model::family_of(opened.config);
  ExportRequest request;
  request.format = "compressed-tensors";
  const ExportPlan plan = plan_export(family, *opened.weights, {.group_size = -1}, request);
  EXPECT_THAT(contents_of(plan, family).untouched(),
              ElementsAre("model.per_layer_model_projection", "lm_head"));
}

}  // namespace
}  // namespace calque::formats
