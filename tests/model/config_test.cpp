#include "calque/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>

#include "calque/core/error.h"
#include "calque/model/family.h"
#include "support/model_fixture.h"

namespace calque::model {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The least that a Llama of 4 heads says.
json llama_json() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 96},
          {"intermediate_size", 160},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 100},
          {"max_position_embeddings", 64}};
}

json with(json object, const json& changes) {
  object.update(changes);
  return object;
}

json of_class(const char* architecture, const json& changes) {
  const std::string model_type(find_family(architecture)->model_type);
  return with(with(llama_json(), {{"architectures", {architecture}}, {"model_type", model_type}}),
              changes);
}

ModelConfig parse(const json& object) { return parse_config(object.dump(), "config.json"); }

std::string refusal_of(const json& object) {
  return error_of([&] { parse(object); });
}

// As Google publishes Gemma 3 4B: its text_config leaves out what the class has by default.
TEST(Config, ReadsTheLanguageModelOfAWrapper) {
  const ModelConfig config = parse({{"architectures", {"Gemma3ForConditionalGeneration"}},
                                    {"model_type", "gemma3"},
                                    {"torch_dtype", "bfloat16"},
                                    {"eos_token_id", {1, 106}},
                                    {"text_config",
                                     {{"model_type", "gemma3_text"},
                                      {"hidden_size", 2560},
                                      {"intermediate_size", 10240},
                                      {"num_hidden_layers", 7},
                                      {"rope_scaling", {{"factor", 8.0}, {"rope_type", "linear"}}},
                                      {"sliding_window", 1024}}},
                                    {"vision_config", {{"hidden_size", 1152}}}});
  EXPECT_EQ(config.wrapper, "Gemma3ForConditionalGeneration");
  EXPECT_EQ(config.architecture, "Gemma3ForCausalLM");
  EXPECT_EQ(config.model_type, "gemma3_text");
  EXPECT_EQ(config.names.model, "model.language_model");
  EXPECT_EQ(config.num_heads, 8);
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.vocab_size, 262'208);
  EXPECT_EQ(config.max_positions, 131'072);
  EXPECT_EQ(config.window_of_layer, (std::vector<Index>{1024, 1024, 1024, 1024, 1024, 0, 1024}));
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(config.local_rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.dtype, "bfloat16");
  EXPECT_EQ(config.eos_token_id, 1);
}

// As Alibaba published Qwen2.5-VL: no text_config, the sizes lie at the top.
TEST(Config, ReadsAWrapperWithoutTextConfig) {
  json flat =
      with(llama_json(), {{"architectures", {"Qwen2_5_VLForConditionalGeneration"}},
                          {"model_type", "qwen2_5_vl"},
                          {"rope_scaling", {{"type", "mrope"}, {"mrope_section", {4, 4, 4}}}},
                          {"vision_config", {{"depth", 32}}}});
  const ModelConfig config = parse(flat);
  EXPECT_EQ(config.architecture, "Qwen2_5_VLTextModel");
  EXPECT_EQ(config.hidden_size, 96);
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ(config.rope_sections, (std::vector<Index>{4, 4, 4, 0}));
  flat["rope_scaling"]["mrope_section"] = {4, "x"};
  EXPECT_THAT(refusal_of(flat), HasSubstr("mrope_section"));
}

TEST(Config, ReadsSizesAndFillsDefaults) {
  const ModelConfig config = parse(llama_json());
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.hidden_size, 96);
  EXPECT_EQ(config.intermediate_size, 160);
  EXPECT_EQ(config.num_layers, 3);
  EXPECT_EQ(config.num_heads, 4);
  EXPECT_EQ(config.num_kv_heads, 2);
  EXPECT_EQ(config.head_dim, 24);
  EXPECT_EQ(config.vocab_size, 100);
  EXPECT_EQ(config.max_positions, 64);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_THAT(config.window_of_layer, ElementsAre(0, 0, 0));
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.hidden_act, "silu");
  EXPECT_EQ(config.dtype, "");
  EXPECT_EQ(config.eos_token_id, std::nullopt);
}

TEST(Config, TakesHeadDimOverHiddenByHeadsUnlessNull) {
  EXPECT_EQ(parse(with(llama_json(), {{"head_dim", 32}})).head_dim, 32);
  EXPECT_EQ(parse(with(llama_json(), {{"head_dim", nullptr}})).head_dim, 24);
}

TEST(Config, CountsKeyValueHeadsAsHeadsWhenAbsent) {
  json object = llama_json();
  object.erase("num_key_value_heads");
  EXPECT_EQ(parse(object).num_kv_heads, 4);
}

TEST(Config, ReadsBothSpellingsOfDtype) {
  EXPECT_EQ(parse(with(llama_json(), {{"torch_dtype", "float16"}})).dtype, "float16");
  EXPECT_EQ(parse(with(llama_json(), {{"dtype", "bfloat16"}})).dtype, "bfloat16");
}

TEST(Config, ReadsEndTokensAsNumberOrList) {
  EXPECT_EQ(parse(with(llama_json(), {{"eos_token_id", 2}})).eos_token_id, 2);
  EXPECT_EQ(parse(with(llama_json(), {{"eos_token_id", {128001, 128008}}})).eos_token_id, 128001);
  EXPECT_EQ(parse(with(llama_json(), {{"bos_token_id", nullptr}})).bos_token_id, std::nullopt);
}

TEST(Config, ReadsBothSpellingsOfRope) {
  const json scaling{{"factor", 32.0},
                     {"low_freq_factor", 1.0},
                     {"high_freq_factor", 4.0},
                     {"original_max_position_embeddings", 4096}};
  const json older = with(scaling, {{"rope_type", "llama3"}});
  const json oldest = with(scaling, {{"type", "llama3"}});
  const json newer = with(older, {{"rope_theta", 500000.0}});
  for (const json& changes : {json{{"rope_theta", 500000.0}, {"rope_scaling", older}},
                              json{{"rope_theta", 500000.0}, {"rope_scaling", oldest}},
                              json{{"rope_parameters", newer}}}) {
    const RopeSpec rope = parse(with(llama_json(), changes)).rope;
    EXPECT_EQ(rope.theta, 500000.0);
    EXPECT_EQ(rope.scaling, RopeSpec::Scaling::kLlama3);
    EXPECT_EQ(rope.factor, 32.0);
    EXPECT_EQ(rope.low_freq_factor, 1.0);
    EXPECT_EQ(rope.high_freq_factor, 4.0);
    EXPECT_EQ(rope.original_max_positions, 4096);
  }
}

TEST(Config, ReadsLinearAndDefaultRope) {
  const RopeSpec linear =
      parse(with(llama_json(), {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}})).rope;
  EXPECT_EQ(linear.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(linear.factor, 4.0);
  const json plain{{"rope_type", "default"}, {"rope_theta", 1e6}};
  const RopeSpec none = parse(with(llama_json(), {{"rope_parameters", plain}})).rope;
  EXPECT_EQ(none.scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ(none.theta, 1e6);
  EXPECT_EQ(parse(with(llama_json(), {{"rope_scaling", nullptr}})).rope.scaling,
            RopeSpec::Scaling::kNone);
}

TEST(Config, RefusesOtherRopeTypesByName) {
  for (const char* type : {"ntk", "dynamic"})
    EXPECT_THAT(
        refusal_of(with(llama_json(), {{"rope_scaling", {{"type", type}, {"factor", 2.0}}}})),
        AllOf(HasSubstr("config.json: rope_scaling"), HasSubstr("'" + std::string(type) + "'"),
              HasSubstr("default, linear, llama3, longrope, yarn and proportional")));
}

json yarn_json(const json& more) {
  const json scaling{{"rope_type", "yarn"},
                     {"rope_theta", 10000.0},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 8192}};
  return with(llama_json(), {{"head_dim", 32}, {"rope_parameters", with(scaling, more)}});
}

// The values of transformers 5.24's `_compute_yarn_parameters` (float32) for this configuration.
TEST(Config, ReadsYarnAsTransformersComputesIt) {
  const std::vector<double> truncated = {1.0,          0.5623413,    0.3162278,    0.1778279,
                                         0.1,          0.05623413,   0.03162278,   0.01587749,
                                         0.007857143,  0.003815887,  0.001807016,  0.0008256297,
                                         0.0003571429, 0.0001405853, 7.905695e-05, 4.445699e-05};
  const RopeSpec rope = parse(yarn_json(json::object())).rope;
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::kYarn);
  const std::vector<double> frequencies = rope.inverse_frequencies(32);
  ASSERT_EQ(frequencies.size(), truncated.size());
  for (std::size_t i = 0; i < truncated.size(); ++i)
    EXPECT_NEAR(frequencies[i] / truncated[i], 1.0, 1e-6) << i;
  EXPECT_NEAR(rope.attention_factor, 1.138629436111989, 1e-12);

  const RopeSpec whole = parse(yarn_json({{"truncate", false}})).rope;
  EXPECT_NEAR(whole.inverse_frequencies(32)[7], 0.01654279, 1e-8);
  EXPECT_NEAR(whole.inverse_frequencies(32)[11], 0.0007681815, 1e-10);
  EXPECT_EQ(parse(yarn_json({{"attention_factor", 1.5}})).rope.attention_factor, 1.5);
  const json scales{{"mscale", 0.7}, {"mscale_all_dim", 1.0}};
  EXPECT_NEAR(parse(yarn_json(scales)).rope.attention_factor, 0.9634746568860826, 1e-12);
}

TEST(Config, ReadsTheShareOfAHeadThatTurns) {
  json phi = with(llama_json(), {{"architectures", {"Phi3ForCausalLM"}},
                                 {"model_type", "phi3"},
                                 {"head_dim", 32},
                                 {"partial_rotary_factor", 0.75}});
  EXPECT_EQ(parse(phi).rope.channels, 24);
  // Pair i of 12: theta^(-2 i / 24).
  EXPECT_NEAR(parse(phi).rope.inverse_frequencies(32).at(6), 0.01, 1e-12);
  EXPECT_EQ(parse(phi).rope.inverse_frequencies(32).size(), 12u);
  phi["partial_rotary_factor"] = 0.1;
  EXPECT_THAT(refusal_of(phi), HasSubstr("makes 3 of 32 channels"));
}

TEST(Config, ReadsLayersWithoutPositions) {
  json smol = with(llama_json(), {{"architectures", {"SmolLM3ForCausalLM"}},
                                  {"model_type", "smollm3"},
                                  {"num_hidden_layers", 5}});
  const std::vector<bool> fourth{true, true, true, false, true};
  EXPECT_EQ(parse(smol).turned_layers, fourth);
  smol["no_rope_layers"] = {1, 0, 1, 1, 0};
  const std::vector<bool> listed{true, false, true, true, false};
  EXPECT_EQ(parse(smol).turned_layers, listed);
  smol["no_rope_layers"] = {1, 0};
  EXPECT_THAT(refusal_of(smol), HasSubstr("must list 5 layers"));
}

json qwen3_next_json(const json& more) {
  const json own{{"architectures", {"Qwen3NextForCausalLM"}},
                 {"model_type", "qwen3_next"},
                 {"num_hidden_layers", 8},
                 {"head_dim", 32},
                 {"num_experts", 0}};
  return with(with(llama_json(), own), more);
}

TEST(Config, ReadsWhichLayersHaveDeltaNets) {
  const std::vector<bool> three_of_four{true, true, true, false, true, true, true, false};
  EXPECT_EQ(parse(qwen3_next_json(json::object())).delta_net_layers, three_of_four);
  const std::vector<bool> every_other{true, false, true, false, true, false, true, false};
  EXPECT_EQ(parse(qwen3_next_json({{"full_attention_interval", 2}})).delta_net_layers, every_other);
  std::vector<std::string> types(8, "full_attention");
  types[5] = "linear_attention";
  std::vector<bool> listed(8, false);
  listed[5] = true;
  const ModelConfig both =
      parse(qwen3_next_json({{"layer_types", types}, {"full_attention_interval", 4}}));
  EXPECT_EQ(both.delta_net_layers, listed);
  EXPECT_THAT(both.remarks, ElementsAre(HasSubstr("full_attention_interval (4) is not")));
  types[0] = "sliding_attention";
  EXPECT_THAT(refusal_of(qwen3_next_json({{"layer_types", types}})),
              HasSubstr("has \"sliding_attention\"; supported are"));
  types.pop_back();
  EXPECT_THAT(refusal_of(qwen3_next_json({{"layer_types", types}})),
              HasSubstr("must list 8 layers"));
}

TEST(Config, ReadsTheHeadsOfDeltaNets) {
  const DeltaNetSizes usual{16, 32, 128, 128, 4};
  EXPECT_EQ(parse(qwen3_next_json(json::object())).delta_net, usual);
  const DeltaNetSizes given{2, 6, 16, 32, 3};
  EXPECT_EQ(parse(qwen3_next_json({{"linear_num_key_heads", 2},
                                   {"linear_num_value_heads", 6},
                                   {"linear_key_head_dim", 16},
                                   {"linear_value_head_dim", 32},
                                   {"linear_conv_kernel_dim", 3}}))
                .delta_net,
            given);
  EXPECT_THAT(refusal_of(qwen3_next_json({{"linear_num_value_heads", 24}})),
              HasSubstr("is 24 and is not a multiple of the 16"));
}

// No layer is dense, weights are always scaled to sum 1, and the file may have experts in stacks.
TEST(Config, ReadsTheExpertsOfQwen35) {
  json qwen = qwen3_next_json({{"architectures", {"Qwen3_5MoeForCausalLM"}},
                               {"model_type", "qwen3_5_moe_text"},
                               {"num_experts", 8},
                               {"num_experts_per_tok", 2},
                               {"moe_intermediate_size", 32},
                               {"shared_expert_intermediate_size", 48}});
  qwen.erase("intermediate_size");
  const ModelConfig config = parse(qwen);
  EXPECT_EQ(config.num_experts, 8);
  EXPECT_EQ(config.routing.used, 2);
  EXPECT_TRUE(config.routing.normalize);
  EXPECT_EQ(config.expert_intermediate_size, 32);
  EXPECT_EQ(config.shared_intermediate_size, 48);
  EXPECT_EQ(config.experts_in_layer, std::vector<bool>(8, true));
  EXPECT_EQ(config.stacked_experts, StackedExperts::kRows);
  EXPECT_EQ(config.rope_sections, (std::vector<Index>{11, 11, 10, 0}));
}

// A quarter of a head turns unless the file says otherwise, in either spelling.
TEST(Config, ReadsTheShareThatTurnsBesideDeltaNets) {
  EXPECT_EQ(parse(qwen3_next_json(json::object())).rope.channels, 8);
  EXPECT_EQ(parse(qwen3_next_json({{"partial_rotary_factor", 0.5}})).rope.channels, 16);
  const ModelConfig newer = parse(qwen3_next_json({{"rope_parameters",
                                                    {{"rope_type", "default"},
                                                     {"rope_theta", 1e7},
                                                     {"mrope_section", {3, 3, 2}},
                                                     {"partial_rotary_factor", 1.0}}}}));
  EXPECT_EQ(newer.rope.channels, 0);
  EXPECT_EQ(newer.rope.theta, 1e7);
  EXPECT_EQ(newer.rope_sections, (std::vector<Index>{3, 3, 2, 0}));
  EXPECT_TRUE(newer.norm_plus_one);
}

// transformers' `_compute_longrope_parameters`: theta 10000, heads of 4: frequencies 1 and 0.01,
// each divided by its factor; cosines and sines times sqrt(1 + ln(256 / 64) / ln(64)) =
// sqrt(4 / 3).
TEST(Config, ReadsLongRopeWithFactorsForShortAndLongSequences) {
  const json scaling{{"rope_type", "longrope"},
                     {"short_factor", {1.0, 2.0}},
                     {"long_factor", {4.0, 8.0}},
                     {"original_max_position_embeddings", 64}};
  const json changes{{"head_dim", 4}, {"max_position_embeddings", 256}, {"rope_scaling", scaling}};
  const RopeSpec rope = parse(with(llama_json(), changes)).rope;
  EXPECT_EQ(rope.scaling, RopeSpec::Scaling::kLongRope);
  EXPECT_NEAR(rope.attention_factor, std::sqrt(4.0 / 3.0), 1e-12);
  EXPECT_THAT(rope.inverse_frequencies(4), ElementsAre(DoubleEq(1.0), DoubleEq(0.005)));
  EXPECT_THAT(rope.inverse_frequencies(4, 64), ElementsAre(DoubleEq(1.0), DoubleEq(0.005)));
  EXPECT_THAT(rope.inverse_frequencies(4, 65), ElementsAre(DoubleEq(0.25), DoubleEq(0.00125)));
  json su = changes;
  su["rope_scaling"]["rope_type"] = "su";
  EXPECT_EQ(parse(with(llama_json(), su)).rope.scaling, RopeSpec::Scaling::kLongRope);
  json given = changes;
  given["rope_scaling"]["attention_factor"] = 1.25;
  EXPECT_EQ(parse(with(llama_json(), given)).rope.attention_factor, 1.25);
}

TEST(Config, RefusesLongRopeFactorsOfAnotherNumberOrSign) {
  json scaling{{"rope_type", "longrope"},
               {"short_factor", {1.0}},
               {"long_factor", {4.0, 8.0}},
               {"original_max_position_embeddings", 64}};
  const auto refusal = [&] {
    return refusal_of(with(llama_json(), {{"head_dim", 4}, {"rope_scaling", scaling}}));
  };
  EXPECT_THAT(refusal(), HasSubstr("'short_factor' must list 2 numbers"));
  scaling["short_factor"] = {1.0, -2.0};
  EXPECT_THAT(refusal(), HasSubstr("'short_factor' contains -2.0"));
  scaling.erase("short_factor");
  EXPECT_THAT(refusal(), HasSubstr("'short_factor' is missing"));
}

TEST(Config, RefusesIncompleteLlama3Scaling) {
  EXPECT_THAT(refusal_of(with(llama_json(), {{"rope_scaling", {{"rope_type", "llama3"}}}})),
              HasSubstr("rope_scaling: 'factor' is missing"));
  const json reversed{{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 4.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 64}};
  EXPECT_THAT(refusal_of(with(llama_json(), {{"rope_scaling", reversed}})),
              HasSubstr("'high_freq_factor' is 4 and must be above low_freq_factor 4"));
}

TEST(Config, GivesMistralItsWindowInEveryLayer) {
  const char* const kClass = "MistralForCausalLM";
  EXPECT_THAT(parse(of_class(kClass, {{"sliding_window", 24}})).window_of_layer,
              ElementsAre(24, 24, 24));
  EXPECT_THAT(parse(of_class(kClass, {{"sliding_window", nullptr}})).window_of_layer,
              ElementsAre(0, 0, 0));
  // The default of transformers' MistralConfig.
  EXPECT_THAT(parse(of_class(kClass, json::object())).window_of_layer,
              ElementsAre(4096, 4096, 4096));
}

TEST(Config, GivesLlamaNoWindow) {
  EXPECT_THAT(parse(with(llama_json(), {{"sliding_window", 24}})).window_of_layer,
              ElementsAre(0, 0, 0));
}

TEST(Config, GivesQwenAWindowOnlyWhereAsked) {
  for (const char* architecture : {"Qwen2ForCausalLM", "Qwen3ForCausalLM"}) {
    const json base = of_class(architecture, {{"sliding_window", 24}});
    EXPECT_THAT(parse(base).window_of_layer, ElementsAre(0, 0, 0));
    EXPECT_THAT(parse(with(base, {{"use_sliding_window", false}, {"max_window_layers", 1}}))
                    .window_of_layer,
                ElementsAre(0, 0, 0));
    const json used = with(base, {{"use_sliding_window", true}});
    EXPECT_THAT(parse(with(used, {{"max_window_layers", 1}})).window_of_layer,
                ElementsAre(0, 24, 24));
    EXPECT_THAT(parse(with(used, {{"max_window_layers", 0}})).window_of_layer,
                ElementsAre(24, 24, 24));
    const json types{"sliding_attention", "full_attention", "sliding_attention"};
    EXPECT_THAT(
        parse(with(used, {{"layer_types", types}, {"max_window_layers", 1}})).window_of_layer,
        ElementsAre(24, 0, 24));
    EXPECT_THAT(refusal_of(with(used, {{"layer_types", {"full_attention"}}})),
                HasSubstr("'layer_types' must list 3 layers"));
  }
}

// Defaults of transformers' classes; the models' own files leave many of these keys out.
TEST(Config, GivesGemmaWhatItsFilesLeaveOut) {
  const ModelConfig first = parse(of_class("GemmaForCausalLM", {{"hidden_act", "gelu"}}));
  EXPECT_EQ(first.hidden_act, "gelu_pytorch_tanh");
  EXPECT_TRUE(first.tie_word_embeddings);
  EXPECT_TRUE(first.norm_plus_one);
  EXPECT_EQ(first.head_dim, 256);
  EXPECT_DOUBLE_EQ(first.embedding_scale, std::sqrt(96.0));
  EXPECT_EQ(first.query_scale, 0.0);
  EXPECT_THAT(first.window_of_layer, ElementsAre(0, 0, 0));
  const ModelConfig second = parse(of_class("Gemma2ForCausalLM", {{"sliding_window", 24}}));
  EXPECT_EQ(second.attention_softcap, 50.0);
  EXPECT_EQ(second.logit_softcap, 30.0);
  EXPECT_EQ(second.query_scale, 1.0 / 16);
  EXPECT_THAT(second.window_of_layer, ElementsAre(24, 0, 24));
  const ModelConfig uncapped =
      parse(of_class("Gemma2ForCausalLM", {{"attn_logit_softcapping", nullptr}}));
  EXPECT_EQ(uncapped.attention_softcap, 0.0);
}

// Six layers, the last without a window.
json gemma4_json(const json& more) {
  return with(of_class("Gemma4ForCausalLM", {{"hidden_size", 128},
                                             {"num_hidden_layers", 6},
                                             {"num_attention_heads", 4},
                                             {"num_key_value_heads", 2},
                                             {"head_dim", 32},
                                             {"vocab_size", 320},
                                             {"hidden_size_per_layer_input", 0},
                                             {"intermediate_size", 160}}),
              more);
}

// One number for all layers without a window, as published; layer by layer, as transformers 5
// saves.
TEST(Config, ReadsBothSpellingsOfTheHeadsOfGemma4) {
  const json full{{"head_dim", 64}, {"num_key_value_heads", 1}};
  for (const json& heads : {json{{"global_head_dim", 64}, {"num_global_key_value_heads", 1}},
                            json{{"per_layer_config", {{"5", full}}}}}) {
    const ModelConfig config = parse(gemma4_json(with(heads, {{"attention_k_eq_v", true}})));
    EXPECT_EQ(config.head_dim_of(0), 32);
    EXPECT_EQ(config.head_dim_of(5), 64);
    EXPECT_EQ(config.kv_heads_of(0), 2);
    EXPECT_EQ(config.kv_heads_of(5), 1);
    EXPECT_TRUE(config.full_values_are_keys);
  }
  // The count of all layers holds where values have a projection.
  EXPECT_EQ(parse(gemma4_json({{"num_global_key_value_heads", 1}})).kv_heads_of(5), 2);
}

TEST(Config, TakesTheDefaultsOfGemma4) {
  json given = gemma4_json(json::object());
  given.erase("hidden_size_per_layer_input");
  given["vocab_size"] = 262'144;
  const ModelConfig config = parse(given);
  EXPECT_THAT(config.window_of_layer, ElementsAre(512, 512, 512, 512, 512, 0));
  EXPECT_EQ(config.head_dim_of(5), 512);
  EXPECT_EQ(config.layer_embedding_size, 256);
  EXPECT_EQ(config.query_scale, 1.0);
  EXPECT_FALSE(config.norm_plus_one);
  EXPECT_EQ(config.hidden_act, "gelu_pytorch_tanh");
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kProportional);
  EXPECT_EQ(config.rope.proportion, 0.25);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_EQ(config.local_rope.theta, 1e4);
  EXPECT_EQ(config.num_experts, 0);
}

TEST(Config, RefusesAGemma4ThatItWouldNotRun) {
  EXPECT_THAT(refusal_of(gemma4_json({{"num_kv_shared_layers", 6}})),
              AllOf(HasSubstr("num_kv_shared_layers"), HasSubstr("is 6 of 6 layers")));
  EXPECT_THAT(refusal_of(gemma4_json({{"num_kv_shared_layers", 1}})),
              HasSubstr("layer 5 has no layer of its kind before layer 5"));
  EXPECT_THAT(refusal_of(gemma4_json({{"per_layer_config", {{"2", {{"head_dim", 64}}}}}})),
              HasSubstr("names layer 2, which has a window"));
  EXPECT_THAT(refusal_of(gemma4_json(
                  {{"hidden_size_per_layer_input", 32}, {"vocab_size_per_layer_input", 100}})),
              HasSubstr("vocab_size_per_layer_input"));
  EXPECT_THAT(refusal_of(gemma4_json({{"use_bidirectional_attention", "all"}})),
              HasSubstr("use_bidirectional_attention"));
}

// By hand: a head of 8 channels has 4 pairs, of which half turn, with theta^(-2i/8).
TEST(Config, ProportionalPositionsHoldTheLastPairsStill) {
  RopeSpec rope{.theta = 16.0, .scaling = RopeSpec::Scaling::kProportional};
  rope.proportion = 0.5;
  EXPECT_THAT(rope.inverse_frequencies(8), ElementsAre(1.0, 0.5, 0.0, 0.0));
  rope.factor = 2.0;
  EXPECT_THAT(rope.inverse_frequencies(8), ElementsAre(0.5, 0.25, 0.0, 0.0));
}

TEST(Config, ReadsBothSpellingsOfGemma3) {
  const json older{{"rope_theta", 1e6},
                   {"rope_local_base_freq", 2e4},
                   {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}},
                   {"sliding_window", 24},
                   {"sliding_window_pattern", 2},
                   {"query_pre_attn_scalar", 64}};
  const json full{{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}};
  const json sliding{{"rope_type", "default"}, {"rope_theta", 2e4}};
  const json newer{{"rope_parameters", {{"full_attention", full}, {"sliding_attention", sliding}}},
                   {"sliding_window", 24},
                   {"layer_types", {"sliding_attention", "full_attention", "sliding_attention"}},
                   {"query_pre_attn_scalar", 64}};
  for (const json& changes : {older, newer}) {
    const ModelConfig config = parse(of_class("Gemma3ForCausalLM", changes));
    EXPECT_EQ(config.rope.theta, 1e6);
    EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kLinear);
    EXPECT_EQ(config.rope.factor, 8.0);
    EXPECT_EQ(config.local_rope.theta, 2e4);
    EXPECT_EQ(config.local_rope.scaling, RopeSpec::Scaling::kNone);
    EXPECT_THAT(config.window_of_layer, ElementsAre(24, 0, 24));
    EXPECT_EQ(config.query_scale, 0.125);
    EXPECT_EQ(config.attention_softcap, 0.0);
  }
}

TEST(Config, ReadsExperts) {
  const json mixtral{{"num_local_experts", 4}, {"num_experts_per_tok", 2}};
  const ModelConfig of_mixtral = parse(of_class("MixtralForCausalLM", mixtral));
  EXPECT_EQ(of_mixtral.num_experts, 4);
  EXPECT_EQ(of_mixtral.routing.used, 2);
  EXPECT_EQ(of_mixtral.expert_intermediate_size, 160);
  EXPECT_TRUE(of_mixtral.routing.normalize);
  EXPECT_THAT(of_mixtral.experts_in_layer, ElementsAre(true, true, true));
  EXPECT_EQ(of_mixtral.rope.theta, 1e6);

  const json qwen{{"num_experts", 8},
                  {"num_experts_per_tok", 2},
                  {"moe_intermediate_size", 48},
                  {"shared_expert_intermediate_size", 64},
                  {"decoder_sparse_step", 1},
                  {"mlp_only_layers", {1}}};
  const ModelConfig of_qwen = parse(of_class("Qwen2MoeForCausalLM", qwen));
  EXPECT_EQ(of_qwen.num_experts, 8);
  EXPECT_EQ(of_qwen.expert_intermediate_size, 48);
  EXPECT_EQ(of_qwen.shared_intermediate_size, 64);
  EXPECT_FALSE(of_qwen.routing.normalize);
  EXPECT_TRUE(of_qwen.attention_bias);
  EXPECT_THAT(of_qwen.experts_in_layer, ElementsAre(true, false, true));
  const json sparse = with(qwen, {{"decoder_sparse_step", 2}, {"norm_topk_prob", true}});
  const ModelConfig third = parse(of_class("Qwen3MoeForCausalLM", sparse));
  EXPECT_THAT(third.experts_in_layer, ElementsAre(false, false, false));
  EXPECT_TRUE(third.routing.normalize);
  EXPECT_EQ(third.shared_intermediate_size, 0);
}

// The keys of transformers' Glm4MoeConfig and their defaults there.
TEST(Config, ReadsTheRoutingOfGlm) {
  json glm = of_class(
      "Glm4MoeForCausalLM",
      {{"n_routed_experts", 16}, {"num_experts_per_tok", 4}, {"moe_intermediate_size", 24}});
  const ModelConfig plain = parse(glm);
  EXPECT_EQ(
      plain.routing,
      (Routing{
          .scores = Routing::Scores::kSigmoid, .used = 4, .normalize = true, .sum_extra = 1e-20}));
  EXPECT_EQ(plain.num_experts, 16);
  EXPECT_EQ(plain.shared_intermediate_size, 24);
  EXPECT_THAT(plain.experts_in_layer, ElementsAre(false, true, true));
  EXPECT_FALSE(plain.qk_norm);
  EXPECT_EQ(plain.rope.channels, plain.head_dim / 2);
  EXPECT_EQ(plain.rms_norm_eps, 1e-5);
  const ModelConfig other = parse(with(glm, {{"n_shared_experts", 2},
                                             {"first_k_dense_replace", 0},
                                             {"routed_scaling_factor", 2.5},
                                             {"n_group", 4},
                                             {"topk_group", 2},
                                             {"norm_topk_prob", false},
                                             {"use_qk_norm", true},
                                             {"partial_rotary_factor", 1.0}}));
  EXPECT_EQ(other.shared_intermediate_size, 48);
  EXPECT_THAT(other.experts_in_layer, ElementsAre(true, true, true));
  EXPECT_EQ(other.routing.scale, 2.5);
  EXPECT_EQ(other.routing.groups, 4);
  EXPECT_EQ(other.routing.groups_used, 2);
  EXPECT_FALSE(other.routing.normalize);
  EXPECT_TRUE(other.qk_norm);
  EXPECT_EQ(other.rope.channels, 0);
  EXPECT_THAT(refusal_of(with(glm, {{"n_group", 16}})), HasSubstr("'n_group' is 16"));
  EXPECT_THAT(refusal_of(with(glm, {{"n_group", 8}})), HasSubstr("'topk_group' is 1 of 8 groups"));
}

TEST(Config, ReadsTheLayersAndFactorOfHy3) {
  json hy =
      of_class("HYV3ForCausalLM",
               {{"num_experts", 8}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}});
  EXPECT_THAT(parse(hy).experts_in_layer, ElementsAre(false, true, true));
  EXPECT_EQ(parse(hy).routing.scale, 2.826);
  EXPECT_EQ(parse(hy).shared_intermediate_size, 24);
  hy["mlp_layer_types"] = {"sparse", "dense", "sparse"};
  EXPECT_THAT(parse(hy).experts_in_layer, ElementsAre(true, false, true));
  hy["mlp_layer_types"] = {"sparse", "dense", "full"};
  EXPECT_THAT(refusal_of(hy), HasSubstr("'mlp_layer_types' has \"full\""));
}

// Published files of MiniMax M2 give a number of channels, transformers 5 writes a share.
TEST(Config, ReadsTheTurnedChannelsOfMiniMax) {
  const json minimax =
      of_class("MiniMaxM2ForCausalLM",
               {{"num_local_experts", 8}, {"num_experts_per_tok", 2}, {"head_dim", 32}});
  const ModelConfig all = parse(minimax);
  EXPECT_EQ(all.rope.channels, 0);
  EXPECT_EQ(all.routing,
            (Routing{.scores = Routing::Scores::kSigmoid, .used = 2, .normalize = true}));
  EXPECT_EQ(all.expert_intermediate_size, all.intermediate_size);
  EXPECT_EQ(parse(with(minimax, {{"rotary_dim", 16}})).rope.channels, 16);
  const json share{{"rope_type", "default"}, {"rope_theta", 5e6}, {"partial_rotary_factor", 0.25}};
  EXPECT_EQ(parse(with(minimax, {{"rotary_dim", 16}, {"rope_parameters", share}})).rope.channels,
            8);
}

// As OpenAI published gpt-oss-20b, with half the layers.
json gpt_oss_json() {
  return {{"architectures", {"GptOssForCausalLM"}},
          {"model_type", "gpt_oss"},
          {"head_dim", 64},
          {"hidden_size", 2880},
          {"initial_context_length", 4096},
          {"intermediate_size", 2880},
          {"max_position_embeddings", 131072},
          {"num_attention_heads", 64},
          {"experts_per_token", 4},
          {"num_hidden_layers", 12},
          {"num_key_value_heads", 8},
          {"num_local_experts", 32},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 150000},
          {"rope_scaling",
           {{"beta_fast", 32.0},
            {"beta_slow", 1.0},
            {"factor", 32.0},
            {"original_max_position_embeddings", 4096},
            {"rope_type", "yarn"},
            {"truncate", false}}},
          {"sliding_window", 128},
          {"swiglu_limit", 7.0},
          {"vocab_size", 201088}};
}

TEST(Config, ReadsGptOssAsItWasPublished) {
  const ModelConfig config = parse(gpt_oss_json());
  EXPECT_EQ(config.num_experts, 32);
  EXPECT_EQ(config.routing.used, 4);
  EXPECT_TRUE(config.routing.normalize);
  EXPECT_EQ(config.expert_intermediate_size, 2880);
  EXPECT_EQ(config.stacked_experts, StackedExperts::kAlternatingColumns);
  EXPECT_EQ(config.clamped_gate, (ClampedGate{7.0, 1.702}));
  EXPECT_TRUE(config.attention_bias);
  EXPECT_EQ(config.window_of_layer,
            (std::vector<Index>{128, 0, 128, 0, 128, 0, 128, 0, 128, 0, 128, 0}));
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_FALSE(config.rope.truncate);
  EXPECT_EQ(config.rope.original_max_positions, 4096);
  EXPECT_DOUBLE_EQ(config.rope.attention_factor, 1 + 0.1 * std::log(32.0));
}

// GptOssConfig fills in the positions of the published models.
TEST(Config, GivesGptOssItsPositionsWhereNothingIsSaid) {
  json silent = gpt_oss_json();
  silent.erase("rope_scaling");
  silent.erase("rope_theta");
  EXPECT_EQ(parse(silent).rope, parse(gpt_oss_json()).rope);
}

// transformers 5 writes the same model's positions into one object, and a key for the slope.
TEST(Config, ReadsGptOssInTheNewerSpelling) {
  json newer = gpt_oss_json();
  newer["rope_parameters"] = newer["rope_scaling"];
  newer["rope_parameters"]["rope_theta"] = newer["rope_theta"];
  newer["num_experts_per_tok"] = newer["experts_per_token"];
  for (const char* key : {"rope_scaling", "rope_theta", "experts_per_token", "sliding_window"})
    newer.erase(key);
  newer["swiglu_alpha"] = 1.5;
  newer["swiglu_limit"] = 6.5;
  const ModelConfig config = parse(newer);
  EXPECT_EQ(config.rope, parse(gpt_oss_json()).rope);
  EXPECT_EQ(config.routing, parse(gpt_oss_json()).routing);
  EXPECT_EQ(config.window_of_layer, parse(gpt_oss_json()).window_of_layer);
  EXPECT_EQ(config.clamped_gate, (ClampedGate{6.5, 1.5}));
}

TEST(Config, ReadsTheLayersOfErnie) {
  json ernie = of_class("Ernie4_5_MoeForCausalLM",
                        {{"moe_num_experts", 8}, {"moe_k", 2}, {"moe_intermediate_size", 24}});
  const ModelConfig plain = parse(ernie);
  EXPECT_EQ(plain.routing, (Routing{.used = 2, .normalize = true, .sum_floor = 1e-12}));
  EXPECT_TRUE(plain.rope.adjacent);
  EXPECT_EQ(plain.shared_intermediate_size, 48);
  EXPECT_THAT(plain.experts_in_layer, ElementsAre(false, true, true));
  ernie["moe_layer_interval"] = 2;
  EXPECT_THAT(parse(ernie).experts_in_layer, ElementsAre(false, true, false));
  ernie = with(
      ernie, {{"moe_layer_interval", 1}, {"moe_layer_start_index", 0}, {"moe_layer_end_index", 0}});
  EXPECT_THAT(parse(ernie).experts_in_layer, ElementsAre(true, false, false));
  EXPECT_THAT(refusal_of(with(ernie, {{"use_bias", true}})), HasSubstr("'use_bias' is true"));
}

// Scaling concerns the layers without a window alone, in both spellings.
TEST(Config, ReadsTheWindowsAndPositionsOfOlmo3) {
  const json yarn{{"rope_type", "yarn"},
                  {"factor", 8.0},
                  {"original_max_position_embeddings", 64},
                  {"attention_factor", 1.25}};
  const json olmo = of_class(
      "Olmo3ForCausalLM", {{"num_hidden_layers", 5}, {"sliding_window", 16}, {"rope_theta", 5e5}});
  const ModelConfig older = parse(with(olmo, {{"rope_scaling", yarn}}));
  EXPECT_THAT(older.window_of_layer, ElementsAre(16, 16, 16, 0, 16));
  EXPECT_EQ(older.rope.attention_factor, 1.25);
  EXPECT_EQ(older.local_rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ(older.local_rope.theta, 5e5);
  const json plain{{"rope_type", "default"}, {"rope_theta", 5e5}};
  const ModelConfig newer = parse(with(
      olmo,
      {{"rope_parameters",
        {{"full_attention", with(yarn, {{"rope_theta", 5e5}})}, {"sliding_attention", plain}}}}));
  EXPECT_EQ(newer.rope, older.rope);
  EXPECT_EQ(newer.local_rope, older.local_rope);
}

TEST(Config, LeavesPositionsOutOfExaonesFullLayers) {
  const json exaone =
      of_class("Exaone4ForCausalLM", {{"num_hidden_layers", 5}, {"sliding_window", 16}});
  EXPECT_THAT(parse(exaone).window_of_layer, ElementsAre(16, 16, 16, 0, 16));
  EXPECT_THAT(parse(exaone).turned_layers, ElementsAre(true, true, true, false, true));
  const ModelConfig full = parse(with(exaone, {{"sliding_window", nullptr}}));
  EXPECT_THAT(full.window_of_layer, ElementsAre(0, 0, 0, 0, 0));
  EXPECT_TRUE(full.turned_layers.empty());
}

TEST(Config, RefusesExpertsThatCannotBe) {
  const auto refusal = [](const json& changes) {
    return refusal_of(of_class("MixtralForCausalLM", changes));
  };
  EXPECT_THAT(refusal({{"num_local_experts", 4}, {"num_experts_per_tok", 5}}),
              HasSubstr("'num_experts_per_tok' is 5 of only 4 experts"));
  EXPECT_THAT(
      refusal(
          {{"num_local_experts", 4096}, {"num_experts_per_tok", 2}, {"num_hidden_layers", 100}}),
      HasSubstr("'num_local_experts' is 4096, which in 100 layers makes more than"));
  EXPECT_THAT(refusal(json::object()), HasSubstr("'num_local_experts' is missing"));
}

TEST(Config, GivesPhi3ItsWindowInEveryLayer) {
  EXPECT_THAT(parse(of_class("Phi3ForCausalLM", {{"sliding_window", 24}})).window_of_layer,
              ElementsAre(24, 24, 24));
  EXPECT_THAT(parse(of_class("Phi3ForCausalLM", {{"sliding_window", nullptr}})).window_of_layer,
              ElementsAre(0, 0, 0));
}

TEST(Config, IgnoresQuantizationConfig) {
  EXPECT_NO_THROW(parse(with(llama_json(), {{"quantization_config", {{"bits", 4}}}})));
}

TEST(Config, NamesFileKeyAndValueInRefusals) {
  json missing = llama_json();
  missing.erase("hidden_size");
  EXPECT_THAT(refusal_of(missing), HasSubstr("config.json: 'hidden_size' is missing"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"hidden_size", "96"}})),
              HasSubstr("'hidden_size' must be a whole number from 1 to 2147483647, found \"96\""));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"num_hidden_layers", -1}})),
              HasSubstr("from 1 to 10000, found -1"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"vocab_size", 18446744073709551615ULL}})),
              HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"num_key_value_heads", 3}})),
              HasSubstr("'num_key_value_heads' is 3 and does not divide the 4 heads"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"head_dim", 33}})),
              HasSubstr("'head_dim' is 33; rotary positions need an even number"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"hidden_size", 98}})),
              HasSubstr("hidden_size 98 is not a multiple of num_attention_heads 4"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"hidden_act", "gelu"}})),
              HasSubstr("'hidden_act' is 'gelu'; supported are silu and gelu_pytorch_tanh"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"rms_norm_eps", 0}})),
              HasSubstr("'rms_norm_eps' must be a number above zero, found 0"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"partial_rotary_factor", 0.5}})),
              HasSubstr("'partial_rotary_factor' is 0.5, but LlamaForCausalLM turns all channels"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"attention_bias", 1}})),
              HasSubstr("'attention_bias' must be true or false, found 1"));
  EXPECT_THAT(refusal_of(with(llama_json(), {{"architectures", json::array()}})),
              HasSubstr("'architectures' must be a list"));
}

TEST(Config, RefusesWhatIsNotAJsonObject) {
  EXPECT_THAT(error_of([] { parse_config("{\"hidden_size\": ", "here"); }),
              HasSubstr("here: not JSON"));
  EXPECT_THAT(error_of([] { parse_config("[1, 2]", "here"); }),
              HasSubstr("here: expected an object, found [1,2]"));
}

TEST(Config, NamesTheFileThatIsNotThere) {
  EXPECT_THAT(error_of([] { load_config("/nonexistent"); }), HasSubstr("/nonexistent/config.json"));
}

TEST(Rope, FallsGeometricallyWithoutScaling) {
  RopeSpec rope;
  rope.theta = 10000.0;
  // theta^(-2i/8): 1, 1/10, 1/100, 1/1000.
  const std::vector<double> inverse = rope.inverse_frequencies(8);
  ASSERT_EQ(inverse.size(), 4u);
  for (int i = 0; i < 4; ++i)
    EXPECT_NEAR(inverse[static_cast<std::size_t>(i)], std::pow(10.0, -i), 1e-15);
}

TEST(Rope, DividesAllByTheFactorWhenLinear) {
  RopeSpec rope;
  rope.scaling = RopeSpec::Scaling::kLinear;
  rope.factor = 4;
  EXPECT_NEAR(rope.inverse_frequencies(8)[2], 0.01 / 4, 1e-15);
}

TEST(Rope, BlendsBetweenTheTwoLlama3Wavelengths) {
  RopeSpec rope;
  rope.theta = 10000.0;
  rope.scaling = RopeSpec::Scaling::kLlama3;
  rope.factor = 8;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 4;
  rope.original_max_positions = 100;
  const std::vector<double> inverse = rope.inverse_frequencies(8);
  // Wavelengths 2 pi 10^i = 6.28, 62.8, 628, 6283 against 100/4 and 100/1: kept; blended; divided.
  EXPECT_NEAR(inverse[0], 1.0, 1e-15);
  const double smooth = (100 / (20 * std::numbers::pi) - 1) / 3;
  EXPECT_NEAR(inverse[1], (1 - smooth) * 0.1 / 8 + smooth * 0.1, 1e-15);
  EXPECT_NEAR(inverse[2], 0.01 / 8, 1e-15);
  EXPECT_NEAR(inverse[3], 0.001 / 8, 1e-15);
}

}  // namespace
}  // namespace calque::model
