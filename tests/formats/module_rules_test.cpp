#include "formats/module_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/module_patterns.h"
#include "formats/support.h"
#include "support/model_fixture.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

TEST(ModuleMatcher, TakesExactNamesGlobsAndAnchoredExpressions) {
  const auto matches = [](const std::string& pattern, std::string_view name) {
    return ModuleMatcher(pattern).matches(name);
  };
  EXPECT_TRUE(matches("a.b_proj", "a.b_proj"));
  EXPECT_FALSE(matches("a.b_proj", "axb_proj"));
  EXPECT_FALSE(matches("a.b", "a.b_proj"));
  EXPECT_TRUE(matches("*.b?proj", "a.1.b_proj"));
  EXPECT_FALSE(matches("*.b", "a.b_proj"));
  EXPECT_TRUE(matches("re:a", "a.b_proj"));
  EXPECT_FALSE(matches("re:b_proj", "a.b_proj"));
  EXPECT_TRUE(matches(R"(re:.*\.(b|c)_proj$)", "a.b_proj"));
}

TEST(ModuleMatcher, SaysWhereAnExpressionIsWrong) {
  const Error error = error_of([] { ModuleMatcher("re:model.(layers"); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E152");
  EXPECT_THAT(error.what(),
              HasSubstr("'re:model.(layers' is not a valid regular expression: missing "
                        "closing parenthesis (at offset 13 after 're:')"));
}

TEST(ModuleMatcher, GivesUpOnExpressionsThatNeverEnd) {
  const ModuleMatcher endless("re:(a+)+$");
  const Error error = error_of([&] { (void)endless.matches(std::string(60, 'a') + "b"); });
  EXPECT_EQ(error.code(), "E152");
  EXPECT_THAT(error.what(), HasSubstr("match limit exceeded"));
}

class Rules : public ::testing::Test {
 protected:
  ExportPlan plan(std::vector<ModuleRule> rules, const std::string& format = "gptq",
                  bool tied = false) {
    TinyModel::Options options;
    options.tied = tied;
    options.vocab = 64;
    model_ = std::make_unique<TinyModel>(folder_ / "Tiny", options);
    ExportRequest request;
    request.format = format;
    QuantizationRequest quantization;
    quantization.group_size = 32;
    quantization.rules = std::move(rules);
    return model_->plan(request, quantization);
  }
  Error refusal(std::vector<ModuleRule> rules, const std::string& format = "gptq",
                bool tied = false) {
    return error_of([&] { plan(std::move(rules), format, tied); });
  }
  TempFolder folder_;
  std::unique_ptr<TinyModel> model_;
};

ModuleRule rule(const std::string& match, std::optional<int> bits = {},
                std::optional<bool> skip = {}) {
  ModuleRule rule;
  rule.match = match;
  rule.bits = bits;
  rule.skip = skip;
  return rule;
}

TEST_F(Rules, PatchOneAnotherFieldByField) {
  ModuleRule groups = rule("model.layers.1.mlp.down_proj");
  groups.group_size = -1;
  const ExportPlan planned = plan({rule("*.down_proj", 8), groups});
  const quant::Grid& grid = *planned.at("model.layers.1.mlp.down_proj.weight").grid;
  EXPECT_EQ(grid.bits, 8);
  EXPECT_EQ(grid.group_size, -1);
  EXPECT_EQ(planned.at("model.layers.0.mlp.down_proj.weight").grid->group_size, 32);
  EXPECT_EQ(planned.at("model.layers.0.mlp.down_proj.weight").grid->bits, 8);
  EXPECT_EQ(planned.at("model.layers.0.mlp.up_proj.weight").grid->bits, 4);
}

TEST_F(Rules, LeaveTheHeadAloneUnlessToldOtherwise) {
  EXPECT_FALSE(plan({rule("*", 8)}).at("lm_head.weight").grid.has_value());
  const ExportPlan planned = plan({rule("lm_head", 8, false)});
  EXPECT_EQ(planned.at("lm_head.weight").grid->bits, 8);
  EXPECT_FALSE(planned.at("lm_head.weight").in_block_linear);
}

// Decays and rates of delta nets.
TEST(FamilyRules, RoundWhatIsUsuallyLeftAloneOnlyWhenToldTo) {
  const model::ModelFolder model(model::family_folder("qwen3_next"));
  const std::string linear = "model.layers.0.linear_attn.in_proj_ba.weight";
  const auto plan = [&](std::vector<ModuleRule> rules) {
    QuantizationRequest quantization;
    quantization.group_size = 32;
    quantization.rules = std::move(rules);
    ExportRequest request;
    request.format = "compressed-tensors";
    return plan_export(model.family, model.source, quantization, request);
  };
  EXPECT_FALSE(plan({rule("*", 8)}).at(linear).grid.has_value());
  EXPECT_EQ(plan({rule("*.in_proj_ba", 8, false)}).at(linear).grid->bits, 8);
  const ExportPlan usual = plan({});
  EXPECT_TRUE(usual.at("model.layers.0.linear_attn.in_proj_qkvz.weight").grid.has_value());
  EXPECT_EQ(usual.at("model.layers.0.linear_attn.conv1d.weight").stored_as, "BF16");
  EXPECT_EQ(usual.at("model.layers.0.linear_attn.A_log").stored_as, "F32");
}

TEST_F(Rules, CanSkipAndTakeBack) {
  const ExportPlan planned = plan({rule("*.layers.0.*", {}, true), rule("*.o_proj", {}, false)});
  EXPECT_FALSE(planned.at("model.layers.0.mlp.up_proj.weight").grid.has_value());
  EXPECT_EQ(planned.at("model.layers.0.mlp.up_proj.weight").stored_as, "BF16");
  EXPECT_TRUE(planned.at("model.layers.0.self_attn.o_proj.weight").grid.has_value());
}

TEST_F(Rules, ThatMatchNothingNameTheNearestModule) {
  const Error error = refusal({rule(R"(re:.*\.mpl\.up.*)", 8)});
  EXPECT_EQ(error.code(), "E151");
  EXPECT_THAT(error.what(), HasSubstr(R"('re:.*\.mpl\.up.*' matches none of 15 modules. Nearest: )"
                                      "'model.layers.0.mlp.up_proj'. (allow_no_match: true if "
                                      "intended)"));
  ModuleRule allowed = rule("nothing", 8);
  allowed.allow_no_match = true;
  EXPECT_NO_THROW(plan({allowed}));
}

TEST_F(Rules, AreCheckedForGgufButDoNotApply) {
  EXPECT_EQ(refusal({rule("*.dwn_proj", 8)}, "gguf").code(), "E151");
  const ExportPlan planned = plan({rule("*", 2, true)}, "gguf");
  EXPECT_EQ(planned.at("model.layers.0.mlp.up_proj.weight").stored_as, "Q4_0");
}

TEST_F(Rules, RefuseAHeadThatIsTied) {
  const Error error = refusal({rule("lm_head", {}, false)}, "awq", /*tied=*/true);
  EXPECT_EQ(error.code(), "E124");
  EXPECT_THAT(error.what(), HasSubstr("tied to the embedding"));
  EXPECT_NO_THROW(plan({rule("lm_head", {}, true)}, "awq", /*tied=*/true));
}

TEST_F(Rules, RefuseToQuantizeNothing) { EXPECT_EQ(refusal({rule("*", {}, true)}).code(), "E125"); }

TEST_F(Rules, AreRefusedModuleByModule) {
  ModuleRule groups = rule("*.o_proj");
  groups.group_size = 48;
  const Error error = refusal({rule("*.down_proj", 5), groups}, "gptq");
  EXPECT_THAT(error.what(), HasSubstr("format 'gptq' stores 2, 3, 4 or 8 bits, bits is 5 for "
                                      "model.layers.*.mlp.down_proj (2 modules). Use bits: 8"));
  EXPECT_THAT(error.what(), HasSubstr("group_size 48 does not divide in_features 64 of "
                                      "model.layers.*.self_attn.o_proj (2 modules"));
}

TEST_F(Rules, CannotGiveAwqSeveralGroupSizes) {
  ModuleRule groups = rule("*.o_proj");
  groups.group_size = 64;
  EXPECT_THAT(refusal({groups}, "awq").what(),
              HasSubstr("one group_size for all modules, but the rules set 32, 64"));
  EXPECT_THAT(refusal({rule("*", 3)}, "awq").what(),
              HasSubstr("format 'awq' stores 4-bit weights only, bits is 3. Use bits: 4, or export "
                        "compressed-tensors (2, 3, 4, 5, 6, 7 or 8 bits)."));
}

TEST_F(Rules, MakeAutoV2OfOneAsymmetricModule) {
  ModuleRule asym = rule("*.0.mlp.down_proj");
  asym.sym = false;
  const ExportPlan planned = plan({asym});
  EXPECT_EQ(planned.at("model.layers.0.mlp.down_proj.weight").grid->min_zero, 0);
  EXPECT_EQ(planned.at("model.layers.0.mlp.up_proj.weight").grid->offset_kind,
            OffsetKind::kMiddleCode);
}

TEST(ModuleRegex, CoversWholeFamiliesWithOneExpression) {
  std::vector<std::string> all;
  for (int layer = 0; layer < 12; ++layer)
    for (const char* role : {"q_proj", "k_proj", "o_proj"})
      all.push_back("model.layers." + std::to_string(layer) + ".self_attn." + role);
  std::vector<std::string> chosen;
  for (const std::string& name : all)
    if (!name.ends_with("o_proj")) chosen.push_back(name);
  EXPECT_THAT(regexes_of(chosen, all),
              ElementsAre(R"(model\.layers\.\d+\.self_attn\.(q_proj|k_proj)$)"));
  EXPECT_THAT(regexes_of({all[1], all[34]}, all),
              ElementsAre(R"(model\.layers\.(0|11)\.self_attn\.k_proj$)"));
  EXPECT_THAT(regexes_of({}, all), ElementsAre());
}

TEST(ModuleRegex, TellsExpertsApart) {
  std::vector<std::string> all;
  for (int layer = 0; layer < 2; ++layer)
    for (int expert = 0; expert < 3; ++expert)
      all.push_back("m.layers." + std::to_string(layer) + ".experts." + std::to_string(expert) +
                    ".w1");
  EXPECT_THAT(regexes_of(all, all), ElementsAre(R"(m\.layers\.\d+\.experts\.\d+\.w1$)"));
  EXPECT_THAT(regexes_of({all[0], all[1], all[2]}, all),
              ElementsAre(R"(m\.layers\.0\.experts\.\d+\.w1$)"));
  EXPECT_THAT(regexes_of({all[1], all[4]}, all),
              ElementsAre(R"(m\.layers\.(0|1)\.experts\.1\.w1$)"));
}

}  // namespace
}  // namespace calque::formats
